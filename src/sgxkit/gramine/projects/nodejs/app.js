// What runs in the enclave. Put your program here.
const { createHash } = require("node:crypto");

const digest = createHash("sha256").update("in an enclave").digest("hex");
console.log("Hello from Node.js", process.version, digest.slice(0, 16));
