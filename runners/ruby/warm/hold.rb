# Hold a booted Ruby until its program arrives; see start.sh. Required from the command line, which is the last
# thing before main.rb is read: parsing and running that are Ruby's own, with no frame of this file beneath.

# What the second -r names is not loaded but comes to this method, after this file has been noted as loaded: the
# moment to forget that it was.
def self.require(_name)
  singleton_class.send(:remove_method, :require)
  $LOADED_FEATURES.pop
  true
end

lambda do
  pipe = IO.for_fd(ENV.delete("RUNYARD_HOLD_FD").to_i)
  script = ObjectSpace.each_object(File).find { |file| !file.closed? && file.path == "main.rb" }
  program = File.open("main.rb", "wb")
  File.delete("main.rb")
  Dir.chdir("/work")
  Dir.rmdir("/tmp/.hold")

  length = pipe.read(4)
  exit!(0) if length.nil? # the agent is gone
  unpack = lambda do |data|
    parts = []
    until data.empty?
      size = data.unpack1("N")
      parts << data.byteslice(4, size).force_encoding(Encoding.find("locale"))
      data = data.byteslice(4 + size, data.bytesize)
    end
    parts
  end
  arguments, environment = unpack.(pipe.read(length.unpack1("N"))).map(&:b).map(&unpack)
  pipe.close
  environment.each do |pair|
    name, _, value = pair.partition("=")
    ENV[name] = value
  end
  # A first line may hold options, which have been looked for already: a Ruby started anew finds them.
  exec("ruby", "main.rb", *arguments) if IO.binread("main.rb", 2) == "#!"
  ARGV.concat(arguments.each(&:freeze))
  IO.copy_stream("main.rb", program)
  program.close
  script.rewind
end.call
