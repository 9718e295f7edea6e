"""PHP programs: run warm and cold to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-r", '<?php echo "dash\\n";')

WARM_AND_COLD = {
    "argv": (
        "<?php var_dump($argv, $argc, $_SERVER['argv'], $_SERVER['argc']);",
        {"args": ["a b", "é", "--x=1", "-r"]},
    ),
    "no args": ("<?php var_dump($argv, $argc);", {}),
    "getopt": ("<?php var_dump(getopt('x:', ['mode:'], $rest), $rest);", {"args": ["-x", "1", "--mode=a", "b"]}),
    "file and main": (
        "<?php var_dump(__FILE__, __DIR__, __LINE__, $_SERVER['SCRIPT_NAME'], $_SERVER['PATH_TRANSLATED']);",
        {},
    ),
    "is it the main script": ("<?php var_dump(realpath($argv[0]) === __FILE__, count(debug_backtrace()));", {}),
    "server": (
        "<?php unset($_SERVER['REQUEST_TIME'], $_SERVER['REQUEST_TIME_FLOAT']); ksort($_SERVER); print_r($_SERVER);",
        {},
    ),
    "included files": (
        "<?php require 'h.php'; print_r(get_included_files());",
        {"files": {"h.php": "<?php return 1;"}},
    ),
    "sibling": (
        "<?php require __DIR__ . '/lib/a.php'; echo a();",
        {"files": {"lib/a.php": "<?php function a() { return __FILE__; }"}},
    ),
    "sibling from the working directory": (
        "<?php echo (include 'h.php') + 1;",
        {"files": {"h.php": "<?php return 6;"}},
    ),
    "autoload": (
        "<?php spl_autoload_register(fn ($c) => require strtr($c, '\\\\', '/') . '.php'); echo (new Lib\\Shape)->area();",
        {"files": {"Lib/Shape.php": "<?php\nnamespace Lib;\nclass Shape { function area() { return 9; } }"}},
    ),
    "globals": ("<?php print_r(array_keys($GLOBALS)); print_r(array_keys(get_defined_vars()));", {}),
    "functions and classes": (
        "<?php echo count(get_defined_functions()['internal']), count(get_defined_functions()['user']), "
        "count(get_declared_classes()), ' ', md5(serialize(get_defined_functions()['internal']));",
        {},
    ),
    "constants": (
        "<?php $c = get_defined_constants(true); unset($c['Core']['PHP_BINARY']); echo count($c), md5(json_encode(array_map('array_keys', $c)));",
        {},
    ),
    "extensions": (
        "<?php print_r(get_loaded_extensions()); print_r(get_loaded_extensions(true)); var_dump(extension_loaded('runyard_hold'));",
        {},
    ),
    "settings": (
        "<?php print_r(ini_get_all(null, false)); var_dump(php_ini_loaded_file(), php_ini_scanned_files());",
        {},
    ),
    "memory": ("<?php var_dump(memory_get_usage(), memory_get_peak_usage(true));", {}),
    "cwd": ("<?php var_dump(getcwd(), scandir('.'), scandir('/tmp'), sys_get_temp_dir());", {}),
    "env": (
        "<?php $e = getenv(); ksort($e); print_r($e); print_r($_ENV);",
        {"env": {"MODE": "x", "EMPTY": "", "U": "é", "E": "a=b"}},
    ),
    "env replaces": (
        "<?php var_dump(getenv('MPLBACKEND'), $_SERVER['MPLBACKEND']);",
        {"env": {"MPLBACKEND": "svg"}},
    ),
    "env of a child": ("<?php passthru('env | sort');", {"env": {"MODE": "x"}}),
    "env at boot": ("<?php var_dump(php_ini_loaded_file());", {"env": {"PHPRC": "/nowhere"}}),
    "time zone": ("<?php echo date_default_timezone_get(), date('c', 0);", {"env": {"TZ": "Asia/Tokyo"}}),
    "text before": ("hello\n<?php echo 'x' ?>\nand after\n", {}),
    "no php at all": ("just text\n", {}),
    "first line": ("#!/usr/bin/env php\n<?php echo __LINE__;", {}),
    "declare": ("<?php\ndeclare(strict_types=1);\nfunction f(int $x) { return $x; }\necho f('1');", {}),
    "namespace first": (
        "<?php\nnamespace App;\nfunction strlen($x) { return 'mine'; }\necho strlen('x'), __NAMESPACE__;",
        {},
    ),
    "halt compiler": (
        "<?php\n$f = fopen(__FILE__, 'r'); fseek($f, __COMPILER_HALT_OFFSET__); echo stream_get_contents($f);\n__halt_compiler();data",
        {},
    ),
    "its own text": ("<?php echo file_get_contents(__FILE__), filesize(__FILE__), fileperms(__FILE__);", {}),
    "exit hooks": ('<?php register_shutdown_function(function () { echo "bye\\n"; }); echo "hi\\n";', {}),
    "exit hook after an error": (
        "<?php register_shutdown_function(fn () => print_r(error_get_last())); nope();",
        {},
    ),
    "destructors": ("<?php class A { function __destruct() { echo 'del'; } } $a = new A;", {}),
    "exit code": ("<?php exit(42);", {}),
    "exit with text": ("<?php exit('no luck');", {}),
    "return": ("<?php return 5;", {}),
    "uncaught": ("<?php\nfunction f($x) {\n    throw new RuntimeException('no');\n}\nf(1);", {}),
    "uncaught in a sibling": (
        "<?php\nrequire 'h.php';\nf();",
        {"files": {"h.php": "<?php\nfunction f() { intdiv(1, 0); }"}},
    ),
    "uncaught cause": (
        "<?php\ntry { intdiv(1, 0); } catch (Error $e) { throw new Exception('later', 3, $e); }",
        {},
    ),
    "exception handler": ("<?php set_exception_handler(fn ($e) => print(get_class($e))); nope();", {}),
    "trace": ("<?php function f() { debug_print_backtrace(); } f(); echo (new Exception)->getTraceAsString();", {}),
    "warning": ("<?php\necho $nope;\necho 1 / 2;", {}),
    "deprecated": ("<?php echo strlen(null);", {}),
    "user error": ("<?php trigger_error('careful', E_USER_WARNING); echo 'on';", {}),
    "syntax error": ("<?php\necho 'x'\necho 'y';", {}),
    "syntax error in a sibling": ("<?php require 'h.php';", {"files": {"h.php": "<?php\nfunction {"}}),
    "assert": ("<?php assert(1 > 2);", {}),
    "error_log": ("<?php error_log('to the log'); fwrite(STDERR, 'err'); echo 'out';", {}),
    "memory exhausted": ("<?php ini_set('memory_limit', '8M'); str_repeat('x', 1 << 24);", {}),
    "time limit": ("<?php var_dump(ini_get('max_execution_time')); set_time_limit(1); while (true);", {}),
    "signal": ("<?php posix_kill(getmypid(), SIGTERM); sleep(1);", {}),
    "signal handler": (
        "<?php pcntl_async_signals(true); pcntl_signal(SIGUSR1, function () { echo 'got'; }); posix_kill(getmypid(), SIGUSR1); usleep(1000);",
        {},
    ),
    "signals": ("<?php echo implode(preg_grep('/^Sig[BIC]/', file('/proc/self/status')));", {}),
    "signals of a child": ("<?php passthru('grep ^Sig[BIC] /proc/self/status');", {}),
    "stdin": ("<?php var_dump(fgets(STDIN), stream_get_contents(STDIN), feof(STDIN));", {"stdin": "one\ntwo\n"}),
    "stdin as a file": ("<?php var_dump(file('php://stdin'));", {"stdin": "é\r\n\0"}),
    "readline": ("<?php var_dump(readline('? '), readline());", {"stdin": "one\n"}),
    "no stdin": ("<?php var_dump(fgets(STDIN));", {}),
    "streams": (
        "<?php foreach ([STDIN, STDOUT, STDERR] as $s) { var_dump(stream_get_meta_data($s), stream_isatty($s)); }",
        {},
    ),
    "descriptors": (
        "<?php foreach (scandir('/proc/self/fd') as $f) echo $f, ' ', preg_replace('/\\d+/', '', (string) @readlink(\"/proc/self/fd/$f\")), \"\\n\";",
        {},
    ),
    "process": (
        "<?php var_dump(posix_getppid(), posix_getsid(0) === getmypid(), posix_getuid(), umask(), get_current_user(), cli_get_process_title(), PHP_BINARY, getmyinode() === fileinode(__FILE__));",
        {},
    ),
    "limits": ("<?php echo file_get_contents('/proc/self/limits');", {}),
    "output buffers": (
        "<?php var_dump(ob_get_level(), ob_get_status(true)); ob_start(); echo 'x'; echo strlen(ob_get_clean());",
        {},
    ),
    "fork": (
        "<?php $p = pcntl_fork(); if (!$p) { echo 'child'; exit(3); } pcntl_waitpid($p, $s); echo pcntl_wexitstatus($s);",
        {},
    ),
    "another php": (
        "<?php passthru(PHP_BINARY . ' -r ' . escapeshellarg('var_dump($argv, get_loaded_extensions());') . ' x');",
        {},
    ),
    "random": (
        "<?php mt_srand(5); echo mt_rand(), ' ', (new Random\\Randomizer(new Random\\Engine\\Mt19937(5)))->getInt(1, 100);",
        {},
    ),
    "request time": (
        "<?php var_dump(abs($_SERVER['REQUEST_TIME_FLOAT'] - microtime(true)) < 1, PHP_VERSION, PHP_SAPI, php_sapi_name());",
        {},
    ),
    "unicode": ("<?php echo '日本語 🎉 ', mb_strlen('日本語 🎉');", {}),
    "another entry": (
        None,
        {"entrypoint": "app/run.php", "files": {"app/run.php": "<?php var_dump(__FILE__, $argv);"}},
    ),
    "main as entry": (None, {"entrypoint": "main.php", "files": {"main.php": "<?php var_dump(__FILE__);"}}),
}

SAMPLES = {
    "text": Sample('<?php echo "hello\\n";', "hello\n"),
    "files": Sample(
        "<?php mkdir('outputs/out'); file_put_contents('outputs/out/m.txt', 2 * (int) file_get_contents('inputs/n.txt'));",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample(
        '<?php $name = trim(fgets(STDIN)); echo "hi $name ", array_sum(explode("\\n", stream_get_contents(STDIN, -1) . \'0\')), "\\n";',
        "hi Ada 3\n",
        job={"stdin": "Ada\n1\n2\n"},
    ),
    "args": Sample(
        "<?php echo json_encode(array_slice($argv, 1), JSON_UNESCAPED_UNICODE);",
        '["-x","a b","é"]',
        job={"args": ["-x", "a b", "é"]},
    ),
    "env": Sample("<?php echo getenv('MODE'), $_SERVER['MODE'];", "fast éfast é", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        "<?php require_once 'lib/shapes.php'; echo Shapes\\area(3);",
        "9",
        job={
            "files": {
                "lib/shapes.php": "<?php namespace Shapes; require_once __DIR__ . '/power.php'; function area($n) { return square($n); }",
                "lib/power.php": "<?php namespace Shapes; function square($n) { return $n * $n; }",
            }
        },
    ),
    # PHP has no threads: fibers here, processes in the next.
    "threads": Sample(
        "<?php $f = array_map(fn ($n) => new Fiber(function () use ($n) { Fiber::suspend(); echo $n * $n, ' '; }), [1, 2, 3]);\n"
        "foreach ($f as $x) $x->start();\nforeach ($f as $x) $x->resume();",
        "1 4 9 ",
    ),
    "subprocess": Sample(
        "<?php $p = proc_open(['tr', 'a-z', 'A-Z'], [['pipe', 'r'], ['pipe', 'w']], $pipes);\n"
        "fwrite($pipes[0], 'from a child'); fclose($pipes[0]); echo stream_get_contents($pipes[1]), proc_close($p);",
        "FROM A CHILD0",
    ),
    "json": Sample(
        "<?php echo json_encode(['b' => [1, null, true], 'a' => json_decode('\"\\u00e9\"')], JSON_UNESCAPED_UNICODE);",
        '{"b":[1,null,true],"a":"é"}',
    ),
    "dates": Sample(
        "<?php echo (new DateTime('2024-02-28'))->modify('+2 days')->format('Y-m-d'), ' ', "
        "(new DateTimeImmutable('2024-07-01 12:00', new DateTimeZone('Europe/Berlin')))->format('c');",
        "2024-03-01 2024-07-01T12:00:00+02:00",
    ),
    "unicode": Sample("<?php $s = 'naïve 日本 🎉'; echo mb_strtoupper($s), mb_strlen($s);", "NAÏVE 日本 🎉10"),
    "big output": Sample("<?php echo str_repeat('x', 700_000);", "x" * 700_000),
    "error": Sample(
        "<?php\nfunction f() {\n    throw new InvalidArgumentException('no good');\n}\nf();",
        stderr=("no good in /work/main.php:3", "#0 /work/main.php(5): f()"),
        exit_code=255,
    ),
}
