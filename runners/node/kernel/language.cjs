// JavaScript needs no translation; TypeScript has another file of this name (runners/typescript/kernel).
"use strict";

module.exports = {
  extension: "js",
  hooks: null,
  toJavaScript: (code) => ({ code, map: null }),
};
