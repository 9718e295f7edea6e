# frozen_string_literal: true

require "json"

module RunyardKernel
  # The messages between this kernel and the worker: see docs/kernels.md. Requests arrive at descriptor 0 and replies
  # leave by descriptor 3; both are moved to descriptors that no child process inherits.
  class Messages
    FIONREAD = 0x541B
    READER_S = 2

    def initialize
      @requests = moved(0, "rb")
      @replies = moved(3, "wb")
      @replies.sync = true
      @writing = Mutex.new
      @busy = @interrupted = false
      STDIN.reopen(File::NULL)
    end

    # Return the next request with its parts, or nil when the requests have ended.
    def read
      size = @requests.read(4)
      return if size.nil? || size.bytesize < 4

      request = JSON.parse(@requests.read(size.unpack1("N")))
      (request["parts"] || []).each { |name, length| request[name] = length.zero? ? +"" : @requests.read(length) }
      request
    end

    # Called for SIGINT while a cell runs: raise Interrupt, but never within a message.
    def interrupt
      return @interrupted = true if @busy && Thread.current == Thread.main

      raise Interrupt, ""
    end

    # Write a reply, and wait until it has been read: the reader drains the outputs first.
    def write(reply, parts = {})
      reply = { **reply, parts: parts.map { |name, text| [name, text.bytesize] } } unless parts.empty?
      header = JSON.generate(reply)
      body = [[header.bytesize].pack("N"), header.b, *parts.values.map(&:b)].join
      @busy = true if Thread.current == Thread.main
      send(body)
      return unless Thread.current == Thread.main

      @busy = false
      interrupted, @interrupted = @interrupted, false
      raise Interrupt, "" if interrupted && reply[:type] == "display"
    end

    private

    def send(body)
      @writing.synchronize do
        @replies.write(body)
        deadline = now + READER_S
        pause_s = 0.00005
        while unread.positive? && now < deadline
          sleep(pause_s)
          pause_s = [pause_s * 1.5, 0.002].min
        end
      end
    rescue Errno::EPIPE
      exit!(1) # the agent is gone
    end

    def moved(number, mode)
      old = IO.for_fd(number, mode, autoclose: false)
      copy = old.dup
      IO.for_fd(number).close unless number.zero?
      copy
    end

    def unread
      count = [0].pack("i")
      @replies.ioctl(FIONREAD, count)
      count.unpack1("i")
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
