"""Ruby programs: run warm and cold to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-e", "puts 'dash'")

WARM_AND_COLD = {
    "argv": ("p ARGV, ARGV.map(&:encoding), ARGV.map(&:frozen?)", {"args": ["a b", "é", "--x=1", "-w"]}),
    "file and main": ("p __FILE__, $0, $PROGRAM_NAME, __dir__, __FILE__ == $0, self, __method__", {}),
    "main's own": ("p singleton_methods.sort, singleton_class.instance_methods(false), local_variables", {}),
    "main cached": (
        "x = 1\np binding.local_variables, TOPLEVEL_BINDING.local_variables, binding.irb rescue p $!",
        {},
    ),
    "caller": ("p caller, caller_locations, __LINE__", {}),
    "globals": ("p global_variables.sort, Object.constants.sort", {}),
    "loaded": ("p $LOADED_FEATURES, $LOAD_PATH", {}),
    "require is the interpreter's": (
        "p method(:require).owner, method(:require).source_location, Kernel.private_method_defined?(:require)",
        {},
    ),
    "sibling": ("require_relative 'h'; p X", {"files": {"h.rb": "X = [__FILE__, __dir__]"}}),
    "sibling in a folder": (
        "require './lib/a'; p A",
        {"files": {"lib/a.rb": "require_relative 'b'; A = B", "lib/b.rb": "B = 7"}},
    ),
    "load": ("load 'h.rb'; p $x", {"files": {"h.rb": "$x = 3"}}),
    "data": ("p DATA.read, DATA.path, DATA.lineno, DATA.pos\n__END__\nsome\ndata\n", {}),
    "its own text": ("puts File.read(__FILE__); p __FILE__.then { File.size(_1) }", {}),
    "cwd": ("p Dir.pwd, Dir.children('.').sort, Dir.children('/tmp')", {}),
    "env": ("p ENV.to_a.sort, ENV['U']&.encoding", {"env": {"MODE": "x", "EMPTY": "", "U": "é"}}),
    "env of a child": ("system('env | sort')", {"env": {"MODE": "x"}}),
    "env at boot": ("p $VERBOSE, $DEBUG", {"env": {"RUBYOPT": "-w"}}),
    "time zone": ("p Time.at(0).to_s", {"env": {"TZ": "Asia/Tokyo"}}),
    "encodings": (
        "p Encoding.default_external, Encoding.default_internal, __ENCODING__, Encoding.find('locale'), STDIN.external_encoding",
        {},
    ),
    "encoding line": ("# encoding: iso-8859-1\np __ENCODING__, 'é'.bytes.size", {}),
    "frozen literals": ("# frozen_string_literal: true\np 'a'.frozen?", {}),
    "first line names options": ("#!/usr/bin/env ruby -w\np $VERBOSE, ARGV, $0", {"args": ["a", "b c"]}),
    "first line is a comment": ("# hi\np __LINE__", {}),
    "only a comment": ("#", {}),
    "begins with =begin": ("=begin\nhi\n=end\np __LINE__", {}),
    "byte order mark": ("\ufeffp __ENCODING__, __LINE__", {}),
    "windows line ends": ("p 1\r\np __LINE__\r\n", {}),
    "empty lines": ("\n\n\nraise 'x'", {}),
    "exit hooks": ("at_exit { puts 'bye' }; END { puts 'end' }; BEGIN { puts 'begin' }; puts 'hi'", {}),
    "exit hook after an error": ("at_exit { p $!.class }; raise 'x'", {}),
    "exit code": ("exit 42", {}),
    "exit!": ("at_exit { puts 'no' }; exit! 3", {}),
    "abort": ("abort 'no luck'", {}),
    "uncaught": ("def f\n  1 / 0\nend\n\nf", {}),
    "uncaught on the first line": ("1.nothing", {}),
    "uncaught in a sibling": ("require_relative 'h'\nf", {"files": {"h.rb": "def f = raise(KeyError, 'k')"}}),
    "uncaught cause": ("begin\n  1 / 0\nrescue\n  raise 'later'\nend", {}),
    "did you mean": ("[1].frist", {}),
    "backtrace": (
        "begin; raise 'x'; rescue => e; p e.backtrace, e.backtrace_locations.map(&:absolute_path); end",
        {},
    ),
    "syntax error": ("def f(\n  puts 'x'\n", {}),
    "syntax error in a sibling": ("require_relative 'h'", {"files": {"h.rb": "class A\n  def f\nend\n"}}),
    "warning": ("warn 'careful', uplevel: 0\nA = 1\nA = 2", {}),
    "recursion": ("def f = f\nbegin; f; rescue SystemStackError => e; puts e.message; end", {}),
    "interrupt": ("Process.kill(:INT, $$); sleep 1", {}),
    "signal": ("Process.kill(:TERM, $$); sleep 1", {}),
    "trap": ("trap(:USR1) { puts 'got' }; Process.kill(:USR1, $$); sleep 0.05", {}),
    "traps": ("p Signal.list.keys.sort, trap(:INT, 'DEFAULT'), trap(:PIPE, 'DEFAULT'), trap(:CHLD, 'DEFAULT')", {}),
    "signals": ("puts File.readlines('/proc/self/status').grep(/^Sig[BIC]/)", {}),
    "signals of a child": ("system('grep', '^Sig[BIC]', '/proc/self/status')", {}),
    "gets": ("p gets, gets, gets", {"stdin": "one\ntwo\n"}),
    "gets reads a file argument": (
        "p gets, ARGF.filename",
        {"args": ["h.txt"], "files": {"h.txt": "from a file\n"}},
    ),
    "stdin bytes": ("p $stdin.binmode.read", {"stdin": "é\r\n\0"}),
    "streams": (
        "[$stdin, $stdout, $stderr].each { |s| p s, s.fileno, s.sync, s.tty?, s.lineno rescue p $!.class }",
        {},
    ),
    "descriptors": (
        "p Dir.children('/proc/self/fd').sort.size, ObjectSpace.each_object(IO).reject(&:closed?).map(&:inspect).sort",
        {},
    ),
    "process": (
        "p Process.ppid, Process.getsid == $$, Process.getpgrp == $$, Process.uid, File.umask, File.read('/proc/self/oom_score_adj')",
        {},
    ),
    "limits": ("puts File.read('/proc/self/limits')", {}),
    "title": ("p $0; $0 = 'x'; p $0, Process.argv0", {}),
    "threads": (
        "t = Thread.new { Thread.current[:x] = 1; Thread.main == Thread.current }; p t.value, Thread.list.size",
        {},
    ),
    "ractor": ("r = Ractor.new { 1 + 2 }; p r.take", {}),
    "fork": ("fork { puts 'child'; exit! 0 }; Process.wait; p $?.exitstatus", {}),
    "spawn ruby": ("puts `ruby -e 'p ARGV, $0' x`", {}),
    "gc and objects": ("p GC.disable, GC.stress, ObjectSpace.count_objects.keys.size", {}),
    "tracing": ("p TracePoint.stat.size rescue p $!.class\np set_trace_func(nil)", {}),
    "hash order": ("p({b: 1, a: 2}.to_a); p 'x'.hash == 'x'.hash", {}),
    "random": ("p Random.new(5).rand, rand.class", {}),
    "ruby": ("p RUBY_VERSION, RUBY_DESCRIPTION, RbConfig.ruby, $PROGRAM_NAME, $-w, $-p, $-l, $-a, $-i", {}),
    "last values": ("p $!, $@, $~, $_, $?, $;, $,, $/, $\\, $.", {}),
    "unicode": ("puts '日本語 🎉', 'é'.unicode_normalize(:nfd).size", {}),
    "libraries": ("require 'json'; require 'set'; require 'time'; require 'csv'; puts JSON[{a: Set[1].to_a}]", {}),
    "gems": ("p Gem.loaded_specs.keys.sort, Gem::VERSION, Gem.paths.home", {}),
    "another entry": (None, {"entrypoint": "app/run.rb", "files": {"app/run.rb": "p __FILE__, $0, __dir__"}}),
    "main as entry": (None, {"entrypoint": "main.rb", "files": {"main.rb": "p __FILE__"}}),
}

SAMPLES = {
    "text": Sample("puts 'hello'", "hello\n"),
    "files": Sample(
        "Dir.mkdir('outputs/out')\nFile.write('outputs/out/m.txt', (2 * Integer(File.read('inputs/n.txt'))).to_s)",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample(
        'name = gets.chomp\nputs "hi #{name} #{$stdin.each_line.sum(&:to_i)}"',
        "hi Ada 3\n",
        job={"stdin": "Ada\n1\n2\n"},
    ),
    "args": Sample("p ARGV", '["-x", "a b", "é"]\n', job={"args": ["-x", "a b", "é"]}),
    "env": Sample("puts ENV.fetch('MODE')", "fast é\n", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        "require_relative 'lib/shapes'\nputs area(3)",
        "9\n",
        job={
            "files": {
                "lib/shapes.rb": "require_relative 'power'\ndef area(n) = square(n)\n",
                "lib/power.rb": "def square(n) = n * n\n",
            }
        },
    ),
    "threads": Sample(
        "queue = Queue.new\nthreads = (1..3).map { |n| Thread.new { queue << n; n * n } }\np threads.map(&:value), queue.size",
        "[1, 4, 9]\n3\n",
    ),
    "subprocess": Sample(
        "require 'open3'\nout, status = Open3.capture2('tr a-z A-Z', stdin_data: 'from a child')\nputs out, status.success?",
        "FROM A CHILD\ntrue\n",
    ),
    "json": Sample(
        "require 'json'\nputs JSON.generate({b: [1, nil, true], a: JSON.parse('\"\\u00e9\"')})",
        '{"b":[1,null,true],"a":"é"}\n',
    ),
    "dates": Sample(
        "require 'date'\nrequire 'time'\nputs Date.new(2024, 2, 28) + 2, Time.iso8601('2024-07-01T12:00:00+02:00').utc.iso8601",
        "2024-03-01\n2024-07-01T10:00:00Z\n",
    ),
    "unicode": Sample("s = 'naïve 日本 🎉'\nputs s.upcase, s.length", "NAÏVE 日本 🎉\n10\n"),
    "big output": Sample("puts 'x' * 700_000", "x" * 700_000 + "\n"),
    "error": Sample(
        "def f\n  raise ArgumentError, 'no good'\nend\n\nf",
        stderr=("main.rb:2", "no good (ArgumentError)"),
        exit_code=1,
    ),
}
