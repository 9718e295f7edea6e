// Call the handler of a function: the input comes from a file, the output goes to one; stdout is the handler's own.
// Started as `PROGRAM build` it copies itself to where the build's program is fetched from.
#[path = "handler.rs"]
mod handler;

fn main() {
    let result = if std::env::args().nth(1).as_deref() == Some("build") {
        std::fs::read("/proc/self/exe")
            .and_then(|program| std::fs::write("/work/outputs/program", program))
            .map_err(|error| error.to_string())
    } else {
        call()
    };
    if let Err(message) = result {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

fn call() -> Result<(), String> {
    let input = std::fs::read_to_string("/work/.runyard/input").map_err(|error| error.to_string())?;
    let output: String = handler::run(input)?;
    std::fs::write("/work/outputs/\x01output", output).map_err(|error| error.to_string())
}
