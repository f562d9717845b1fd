-- What stands outside /api/v1: is it up, what does it measure, what can it do.

local answer = require "http.answer"
local health = require "domain.health"
local json = require "json"
local openapi = require "http.openapi"

local document -- made at the first request: the routes do not change while a worker lives

return {
  {method = "GET", path = "/health", operation_id = "getHealth", role = "any", summary = "Is the process alive",
    answers = {[200] = {type = health.types.health}}, handler = health.health},
  {method = "GET", path = "/ready", operation_id = "getReady", role = "any", summary = "Can it serve",
    answers = {[200] = {type = health.types.ready}, [503] = {type = health.types.ready, doc = "Not now"}},
    handler = health.ready},
  {method = "GET", path = "/metrics", operation_id = "getMetrics", role = "admin", whole = true, near = true, summary = "Metrics for Prometheus",
    produces = {"text/plain"}, answers = {[200] = {doc = "Text format 0.0.4", media = {"text/plain"}}},
    handler = health.metrics},
  {method = "GET", path = "/openapi.json", operation_id = "getOpenapi", role = "any", summary = "This document",
    answers = {[200] = {doc = "OpenAPI 3.1", media = {"application/json"}}},
    handler = function()
      document = document or json.encode(openapi.document(require("routes").all(), health.state.version))
      return answer.text(200, document)
    end},
}
