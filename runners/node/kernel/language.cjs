// JavaScript needs no translation; the kernel of TypeScript has another file of this name.
"use strict";

module.exports = {
  extension: "js",
  hooks: null,
  toJavaScript: (code) => ({ code, map: null }),
};
