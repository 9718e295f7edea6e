# frozen_string_literal: true

# The kernel of Ruby: a binding that stays. See docs/kernels.md.
#
# `exit` ends the cell and not the kernel; blocks of `at_exit` run when the kernel ends. Results: see results.rb.

require "tempfile"
require_relative "messages"
require_relative "results"
require_relative "completion"

module RunyardKernel
  # Executes cells in the binding of the main object.
  class Kernel
    MAX_FRAMES = 50
    FRAME = /\Acell-\d+\.rb:/

    def initialize
      @messages = Messages.new
      @results = Results.new(@messages)
      Runyard.kernel_results = @results
      @completion = Completion.new(TOPLEVEL_BINDING)
      @count = 0
      @running = false
      @pid = Process.pid
      STDOUT.sync = STDERR.sync = true
      Signal.trap("INT") { @messages.interrupt if @running }
    end

    def serve
      @messages.write({ type: "ready" })
      while (request = @messages.read)
        case request["op"]
        when "execute" then execute(request)
        when "complete" then @messages.write(*@completion.complete(code(request), request["cursor"]))
        when "inspect" then @messages.write(*@completion.inspect(code(request), request["cursor"]))
        end
      end
    end

    private

    def code(request) = request["code"].to_s.dup.force_encoding(Encoding::UTF_8)

    def execute(request)
      @count += 1
      earlier = (request["env"] || {}).to_h { |name, value| [name, ENV[name]].tap { ENV[name] = value } }
      @results.start(request.fetch("results", true))
      self.stdin = request["stdin"] || ""
      failure, exit_code = outcome(code(request))
      leave(exit_code) if Process.pid != @pid # a child that the cell has forked
      flush
      earlier.each { |name, value| ENV[name] = value }
      @messages.write({ type: "exception" }, failure) if failure
      @messages.write({ type: "done", exit_code: exit_code, execution_count: @count, dropped: @results.dropped })
    end

    # Run a cell; return its failure, or nil, and its exit code.
    def outcome(code)
      ended = nil
      ended = run(code)
    ensure
      # A `return` outside of methods would leave the kernel.
      @running = false
      return [nil, 0] if ended.nil? # rubocop:disable Lint/EnsureReturn
    end

    def run(code)
      file = "cell-#{@count}.rb"
      $PROGRAM_NAME = file # for `if __FILE__ == $PROGRAM_NAME`
      @running = true
      value = TOPLEVEL_BINDING.eval(code, file, 1)
      @results.main(value) if Process.pid == @pid
      @running = false
      [nil, 0]
    rescue SystemExit => e
      @running = false
      [nil, e.status & 255]
    rescue Exception => e # rubocop:disable Lint/RescueException
      @running = false
      [failure(e), 1]
    end

    def failure(error)
      name = error.class.name || "Exception"
      message = text_of(error, :message)
      detail = text_of(error, :detailed_message, highlight: false)
      frames = (error.backtrace || []).grep(FRAME).map { |line| Results.utf8(line) }
      frames = frames.first(MAX_FRAMES) + ["..."] + frames.last(MAX_FRAMES) if frames.size > 2 * MAX_FRAMES
      first, *rest = frames
      traceback = [first, detail].compact.join(": ").split("\n") + rest.map { |line| "\tfrom #{line}" }
      { name: name, value: message, traceback: traceback.join("\n") }.transform_values { |text| Results.cut(text) }
    end

    def text_of(error, method, **options)
      Results.utf8(error.public_send(method, **options).to_s)
    rescue StandardError, SystemStackError
      error.class.name.to_s
    end

    def stdin=(bytes)
      if bytes.empty?
        reopen(File::NULL)
      else
        Tempfile.create("stdin", anonymous: false) do |file|
          file.binmode
          file.write(bytes)
          file.flush
          reopen(file.path)
        end
      end
    end

    def reopen(path)
      STDIN.reopen(path, "r")
      $stdin = STDIN
    rescue IOError # a cell has closed it: its number is the lowest that is free
      @opened&.close
      $stdin = @opened = File.open(path)
    end

    def flush
      [$stdout, $stderr, STDOUT, STDERR].uniq.each do |stream|
        stream.flush
      rescue StandardError
        nil # a cell has closed it, or put something else there
      end
    end

    def leave(exit_code)
      flush
      exit!(exit_code)
    end
  end
end

RunyardKernel::Kernel.new.serve
