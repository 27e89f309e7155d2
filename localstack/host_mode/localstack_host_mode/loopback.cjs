// For kinesis-mock, before its own code: listen on the loopback address, and end with the LocalStack that started it, however
// that ends. It is in a process group of its own, so a signal to LocalStack's does not reach it.
"use strict";

const { Server } = require("net");

const listen = Server.prototype.listen;
Server.prototype.listen = function (port, host, ...others) {
  return typeof host === "string"
    ? listen.call(this, port, "127.0.0.1", ...others)
    : listen.call(this, port, "127.0.0.1", host, ...others);
};

const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(1), 200).unref();
