// The durable run for Restate: three steps, each one POST whose answer is kept before the next begins.
import http2 from "node:http2";
import * as restate from "@restatedev/restate-sdk";

const post = async (n) => {
  const answer = await fetch(process.env.STEP_URL, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ n }),
  });
  return answer.json();
};

const bench = restate.service({
  name: "bench",
  handlers: {
    run: async (ctx) => {
      const out = [];
      for (const n of [1, 2, 3]) out.push((await ctx.run(`step ${n}`, () => post(n))).id);
      return { out };
    },
  },
});

// On loopback only: restate.serve() would listen everywhere.
http2.createServer(restate.createEndpointHandler({ services: [bench] })).listen(Number(process.env.PORT), "127.0.0.1");
