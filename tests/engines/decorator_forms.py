"""Decorators of TypeScript as data: every form of both kinds, with what the TypeScript compiler makes of it.

Each program is run as it stands, which makes it a script, and with `export {}` behind it, which makes it a module.
The outputs are those of TypeScript 5.9 (`transpileModule`, ES2022) on the same Node.
"""

from __future__ import annotations

#: Of the standard: what it shows -> (program, what it prints).
STANDARD = {
    "class": (
        "const seen: string[] = [];\n"
        "function mark<T extends Function>(c: T, x: ClassDecoratorContext) { seen.push(x.kind + ' ' + String(x.name)); }\n"
        "@mark class Job { id = 1 }\n"
        "console.log(new Job().id, Job.name, seen.join());",
        "1 Job class Job",
    ),
    "class replaced": (
        "function sub<T extends new (...a: any[]) => {}>(c: T, x: ClassDecoratorContext) { return class Other extends c { extra = 2 }; }\n"
        "@sub class Job { id = 1; static make() { return new Job(); } me() { return Job; } }\n"
        "const j: any = new Job(); console.log(j.id, j.extra, Job.name, (Job.make() as any).extra, j.me() === Job);",
        "1 2 Other 2 true",
    ),
    "several on a class": (
        "const seen: string[] = [];\n"
        "function d(n: string) { seen.push('eval ' + n); return (c: Function, x: ClassDecoratorContext) => { seen.push('call ' + n); }; }\n"
        "@d('a') @d('b') class Job {}\n"
        "console.log(new Job() instanceof Job, seen.join());",
        "true eval a,eval b,call b,call a",
    ),
    "class initializer": (
        "function init(c: Function, x: ClassDecoratorContext) { x.addInitializer(function (this: any) { this.ready = true; }); }\n"
        "@init class Job { static ready = false }\n"
        "console.log(Job.ready);",
        "true",
    ),
    "method": (
        "function twice(f: Function, x: ClassMethodDecoratorContext) { return function (this: any, n: number) { return f.call(this, n) * 2; }; }\n"
        "class Job { @twice run(n: number) { return n; } }\n"
        "console.log(new Job().run(4));",
        "8",
    ),
    "static method": (
        "function twice(f: Function, x: ClassMethodDecoratorContext) { return function (this: any, n: number) { return f.call(this, n) * 2 + (x.static ? 1 : 0); }; }\n"
        "class Job { @twice static run(n: number) { return n; } }\n"
        "console.log(Job.run(4));",
        "9",
    ),
    "private method": (
        "function twice(f: any, x: ClassMethodDecoratorContext): any { return function (this: any) { return f.call(this) * 2 + String(x.name) + x.private; }; }\n"
        "class Job { @twice #run() { return 4; } run() { return this.#run(); } }\n"
        "console.log(new Job().run());",
        "8#runtrue",
    ),
    "bound method": (
        "function bound(f: Function, x: ClassMethodDecoratorContext) { x.addInitializer(function (this: any) { this[x.name] = f.bind(this); }); }\n"
        "class Job { n = 7; @bound get() { return this.n; } }\n"
        "const { get } = new Job(); console.log(get());",
        "7",
    ),
    "field": (
        "function plus(_: undefined, x: ClassFieldDecoratorContext) { return (n: number) => n + 1; }\n"
        "class Job { @plus n = 1; @plus m: number = 5 }\n"
        "console.log(new Job().n, new Job().m);",
        "2 6",
    ),
    "static field": (
        "function plus(_: undefined, x: ClassFieldDecoratorContext) { return (n: number) => n + 1; }\n"
        "class Job { @plus static n = 1 }\n"
        "console.log(Job.n);",
        "2",
    ),
    "private field": (
        "function plus(_: undefined, x: ClassFieldDecoratorContext) { return (n: number) => n + 1; }\n"
        "class Job { @plus #n = 1; get n() { return this.#n; } }\n"
        "console.log(new Job().n);",
        "2",
    ),
    "accessor": (
        "function shout(a: any, x: ClassAccessorDecoratorContext): any { return { get() { return a.get.call(this) + '!'; }, init: (s: string) => s + s }; }\n"
        "class Job { @shout accessor name = 'a' }\n"
        "const j = new Job(); const first = j.name; j.name = 'b'; console.log(first, j.name);",
        "aa! b!",
    ),
    "static accessor": (
        "function shout(a: any, x: ClassAccessorDecoratorContext): any { return { get(this: any) { return a.get.call(this) + '!'; } }; }\n"
        "class Job { @shout static accessor name2 = 'a' }\n"
        "console.log(Job.name2);",
        "a!",
    ),
    "getter": (
        "function neg(f: any, x: ClassGetterDecoratorContext): any { return function (this: any) { return -f.call(this); }; }\n"
        "class Job { @neg get n() { return 3; } }\n"
        "console.log(new Job().n);",
        "-3",
    ),
    "setter": (
        "function half(f: any, x: ClassSetterDecoratorContext): any { return function (this: any, v: number) { f.call(this, v / 2); }; }\n"
        "class Job { #n = 0; get n() { return this.#n; } @half set n(v: number) { this.#n = v; } }\n"
        "const j = new Job(); j.n = 8; console.log(j.n);",
        "4",
    ),
    "static getter": (
        "function neg(f: any, x: ClassGetterDecoratorContext): any { return function (this: any) { return -f.call(this); }; }\n"
        "class Job { @neg static get n() { return 3; } }\n"
        "console.log(Job.n);",
        "-3",
    ),
    "class expression": (
        "function mark(c: Function, x: ClassDecoratorContext) { (c as any).marked = x.name; }\n"
        "const Job = @mark class { id = 1 };\n"
        "console.log(new Job().id, (Job as any).marked, Job.name);",
        "1 Job Job",
    ),
    "named class expression": (
        "function mark(c: Function, x: ClassDecoratorContext) { (c as any).marked = x.name; }\n"
        "const Job = @mark class Inner { me() { return Inner; } };\n"
        "console.log(new Job().me() === Job, (Job as any).marked);",
        "true Inner",
    ),
    "class in a function": (
        "function mark(c: Function, x: ClassDecoratorContext) { (c as any).marked = true; }\n"
        "function make() { @mark class Job { static id = 3 } return Job; }\n"
        "console.log((make() as any).marked, make().id);",
        "true 3",
    ),
    "class in a block": (
        "function mark(c: Function, x: ClassDecoratorContext) { (c as any).marked = true; }\n"
        "{ @mark class Job { id = 3 } console.log(new Job().id, (Job as any).marked); }\n"
        "if (true) { @mark class Job { id = 4 } console.log(new Job().id); }",
        "3 true\n4",
    ),
    "class in a namespace": (
        "function mark(c: Function, x: ClassDecoratorContext) { (c as any).marked = true; }\n"
        "namespace N { @mark export class Job { id = 5 } export const one = new Job(); }\n"
        "console.log(N.one.id, new N.Job().id, (N.Job as any).marked);",
        "5 5 true",
    ),
    "abstract and generic": (
        "function mark(c: any, x: ClassDecoratorContext) { c.marked = true; }\n"
        "@mark abstract class Base<T> { constructor(readonly value: T) {} abstract get(): T; }\n"
        "@mark class Job extends Base<number> { get() { return this.value; } }\n"
        "console.log(new Job(6).get(), (Job as any).marked, Object.hasOwn(Base, 'marked'));",
        "6 true true",
    ),
    "everything at once": (
        "const seen: string[] = [];\n"
        "function log(v: any, x: any): any { seen.push(x.kind + (x.static ? ' static ' : ' ') + String(x.name)); }\n"
        "@log class Job { @log f = 1; @log m() {} @log accessor a = 1; @log get g() { return 1; } @log set s(v: number) {} @log static sf = 1; @log static sm() {} }\n"
        "new Job(); console.log(seen.join());",
        "method static sm,method m,accessor a,getter g,setter s,field static sf,field f,class Job",
    ),
    "computed and quoted names": (
        "const seen: any[] = []; const key = Symbol('k');\n"
        "function log(v: any, x: any): any { seen.push(x.name); }\n"
        "class Job { @log ['a' + 'b']() {} @log 'c d' = 1; @log [key]() {} }\n"
        "new Job(); console.log(seen);",
        "[ 'ab', Symbol(k), 'c d' ]",
    ),
    "used before and after": (
        "function mark(c: Function, x: ClassDecoratorContext) {}\n"
        "function later() { return new Job().id; }\n"
        "@mark class Job { id = 9; static one = new Job(); clone() { return new Job(); } }\n"
        "console.log(later(), Job.one.clone().id, typeof Job, [Job].length, { Job }.Job === Job);",
        "9 9 function 1 true",
    ),
    "metadata": (
        "function meta(v: any, x: any): any { x.metadata[x.name] = 1; }\n"
        "(Symbol as any).metadata ??= Symbol.for('Symbol.metadata');\n"
        "@meta class Job { @meta m() {} }\n"
        "console.log((Job as any)[(Symbol as any).metadata].m);",
        "1",
    ),
    "decorator by member and call": (
        "const lib = { deep: { mark(n: number) { return (c: any, x: any) => { c.n = n; }; } } };\n"
        "@lib.deep.mark(3) class Job {}\n"
        "@(lib.deep.mark(4)) class Other {}\n"
        "console.log((Job as any).n, (Other as any).n);",
        "3 4",
    ),
    "names of a script": (
        "function mark(c: any, x: any) { c.n = 8; }\n"
        "@mark class Job {}\n"
        "var yield = 1; console.log((Job as any).n, yield, this === module.exports);",
        "8 1 true",
    ),
}
#: These are no modules: their words are reserved there.
ONLY_SCRIPTS = frozenset({"names of a script"})

#: With `experimentalDecorators`.
LEGACY = {
    "class": (
        "const seen: string[] = [];\n"
        "function mark(c: Function) { seen.push(c.name); }\n"
        "@mark class Job { id = 1 }\n"
        "console.log(new Job().id, Job.name, seen.join());",
        "1 Job Job",
    ),
    "class replaced": (
        "function sub<T extends new (...a: any[]) => {}>(c: T) { return class extends c { extra = 2 }; }\n"
        "@sub class Job { id = 1; static make() { return new Job(); } me() { return Job; } }\n"
        "const j: any = new Job(); console.log(j.id, j.extra, (Job.make() as any).extra, j.me() === Job);",
        "1 2 2 true",
    ),
    "method": (
        "function twice(t: any, k: string, d: PropertyDescriptor) { const f = d.value; d.value = function (n: number) { return f.call(this, n) * 2; }; }\n"
        "class Job { @twice run(n: number) { return n; } }\n"
        "console.log(new Job().run(4));",
        "8",
    ),
    "static method": (
        "function twice(t: any, k: string, d: PropertyDescriptor) { const f = d.value; d.value = function (n: number) { return f.call(this, n) * 2; }; }\n"
        "class Job { @twice static run(n: number) { return n; } }\n"
        "console.log(Job.run(4));",
        "8",
    ),
    "field": (
        "const keys: string[] = []; function key(t: any, k: string) { keys.push(k); }\n"
        "class Job { @key a = 1; @key b!: string }\n"
        "console.log(new Job().a, keys.join());",
        "1 a,b",
    ),
    "static field": (
        "const keys: string[] = []; function key(t: any, k: string) { keys.push(typeof t + k); }\n"
        "class Job { @key static a = 1 }\n"
        "console.log(Job.a, keys.join());",
        "1 functiona",
    ),
    "getter and setter": (
        "function neg(t: any, k: string, d: PropertyDescriptor) { const g = d.get!; d.get = function () { return -g.call(this); }; }\n"
        "class Job { #n = 3; @neg get n() { return this.#n; } set n(v) { this.#n = v; } }\n"
        "const j = new Job(); j.n = 8; console.log(j.n);",
        "-8",
    ),
    "accessor": (
        "function neg(t: any, k: string, d: PropertyDescriptor): any { const g = d.get!; return { ...d, get() { return -g.call(this); } }; }\n"
        "class Job { @neg accessor n = 3 }\n"
        "console.log(new Job().n);",
        "-3",
    ),
    "parameter": (
        "const seen: any[] = []; function at(t: any, k: string | undefined, i: number) { seen.push([k, i]); }\n"
        "class Job { constructor(@at a: number) {} run(x: number, @at y: number) {} }\n"
        "new Job(1); console.log(JSON.stringify(seen));",
        '[["run",1],[null,0]]',
    ),
    "parameter property": (
        "const seen: any[] = []; function at(t: any, k: string | undefined, i: number) { seen.push(i); }\n"
        "class Job { constructor(@at public a: number, @at private readonly b = 2) {} sum() { return this.a + this.b; } }\n"
        "console.log(new Job(1).sum(), seen.join());",
        "3 1,0",
    ),
    "several": (
        "const seen: string[] = [];\n"
        "function d(n: string): any { seen.push('eval ' + n); return () => { seen.push('call ' + n); }; }\n"
        "@d('a') @d('b') class Job { @d('c') m() {} }\n"
        "console.log(new Job() instanceof Job, seen.join());",
        "true eval c,call c,eval a,eval b,call b,call a",
    ),
    "class in a function": (
        "function mark(c: any) { c.marked = true; }\n"
        "function make() { @mark class Job { static id = 3 } return Job; }\n"
        "console.log((make() as any).marked, make().id);",
        "true 3",
    ),
    "class in a block": (
        "function mark(c: any) { c.marked = true; }\n"
        "{ @mark class Job { id = 3 } console.log(new Job().id, (Job as any).marked); }",
        "3 true",
    ),
    "class in a namespace": (
        "function mark(c: any) { c.marked = true; }\n"
        "namespace N { @mark export class Job { id = 5 } export const one = new Job(); }\n"
        "console.log(N.one.id, (N.Job as any).marked);",
        "5 true",
    ),
    "used before and after": (
        "function mark(c: Function) {}\n"
        "function later() { return new Job().id; }\n"
        "@mark class Job { id = 9; static one = new Job(); clone() { return new Job(); } }\n"
        "console.log(later(), Job.one.clone().id);",
        "9 9",
    ),
    "abstract and generic": (
        "function mark(c: any) { c.marked = true; }\n"
        "@mark abstract class Base<T> { constructor(readonly value: T) {} abstract get(): T; }\n"
        "@mark class Job extends Base<number> { get() { return this.value; } }\n"
        "console.log(new Job(6).get(), (Job as any).marked);",
        "6 true",
    ),
}

_SUB = "function sub(c: any): any { return class extends c { extra = 2 }; }\n"
_MARK = "function mark(c: any): any { c.marked = true; }\n"

#: Exported classes: (what it shows, program, what an importer shows of it as `m`, what it prints). Of both kinds.
EXPORTED = {
    "export": (
        _MARK + "@mark export class Job { id = 1 }",
        "new m.Job().id, m.Job.marked, m.Job.name",
        "1 true Job",
    ),
    "export replaced": (_SUB + "@sub export class Job { id = 1 }", "new m.Job().id, new m.Job().extra", "1 2"),
    "export list": (
        _SUB + "@sub class Job { id = 1 }\nexport { Job, Job as Work };",
        "new m.Work().extra, m.Job === m.Work",
        "2 true",
    ),
    "export default": (
        _MARK + "@mark export default class Job { id = 1 }",
        "new m.default().id, m.default.marked, m.default.name",
        "1 true Job",
    ),
    "export default replaced": (
        _SUB + "@sub export default class Job { self() { return Job; } }",
        "new m.default().extra, new m.default().self() === m.default",
        "2 true",
    ),
    "export default without a name": (
        _MARK + "@mark export default class { id = 1 }",
        "new m.default().id, m.default.marked",
        "1 true",
    ),
    "export default without a name replaced": (
        _SUB + "@sub export default class { id = 1 }",
        "new m.default().id, new m.default().extra",
        "1 2",
    ),
    "export of a decorated member": (
        "function mark(...a: any[]): any {}\nexport class Job { @mark m() { return 1; } }",
        "new m.Job().m()",
        "1",
    ),
}
#: The same, with the decorator behind `export`: standard decorators only.
EXPORTED_BEFORE = {
    "export @": (_MARK + "export @mark class Job { id = 1 }", "new m.Job().id, m.Job.marked", "1 true"),
    "export default @": (_SUB + "export default @sub class Job { id = 1 }", "new m.default().extra", "2"),
    "export default @ without a name": (
        _MARK + "export default @mark class { id = 1 }",
        "new m.default().id, m.default.marked",
        "1 true",
    ),
}
