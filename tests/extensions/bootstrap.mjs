// A runtime in Node: prints one line for each event and answers with it.
import http from "node:http";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host, port, method, path: `/2018-06-01/runtime/invocation/${path}` },
      (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("end", () => resolve([answer.headers, Buffer.concat(parts).toString()]));
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

for (;;) {
  const [headers, event] = await call("GET", "next");
  console.log(`node handled ${event}`);
  await call("POST", `${headers["lambda-runtime-aws-request-id"]}/response`, event);
}
