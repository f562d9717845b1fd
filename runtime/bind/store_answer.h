/* A store call as an op of Lua, and what its task gets. */
#pragma once

#include "bind/bind.h"
#include "store/store.h"

struct store_op {
    struct kt_op op;
    struct kt_call call;
    enum answer {
        ANSWER_TRUE,
        ANSWER_YES,
        ANSWER_DOC, /* the first of call.read.out, or nil */
        ANSWER_DOCS,
        ANSWER_LIST, /* call.read.out is one array */
        ANSWER_COUNT,
        ANSWER_JSON,
        ANSWER_JSON_ONE,
        ANSWER_WRITE,
        ANSWER_MODIFIED,
        ANSWER_WRITES,
        ANSWER_WRITE_DOC,
        ANSWER_NAMES,
        ANSWER_CHECK,
        ANSWER_BLOB,
        ANSWER_BYTES,
        ANSWER_SUMMARY
    } answer;
};

/* nil, err of a failed call, else the answer; a kt_push_fn. */
int kt_store_push_answer(lua_State *L, struct kt_op *op);
