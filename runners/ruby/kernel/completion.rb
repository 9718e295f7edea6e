# frozen_string_literal: true

module RunyardKernel
  # Completion and inspection. Only names are looked up; nothing of a cell is called.
  class Completion
    MAX_MATCHES = 1000
    MAX_TEXT = 64 * 1024
    KEYWORDS = %w[
      BEGIN END alias and begin break case class def defined? do else elsif end ensure false for if in module next nil
      not or redo rescue retry return self super then true undef unless until when while yield
    ].freeze
    NAME = /(?:[@$]{0,2}[[:alpha:]_][[:word:]]*(?:::[[:alpha:]_][[:word:]]*)*)/
    CHAIN = /(?:(#{NAME})(\.|&\.|::))?([@$]{0,2}[[:word:]]*[?!]?)\z/

    def initialize(binding)
      @binding = binding
    end

    def complete(code, cursor)
      receiver, link, prefix = CHAIN.match(code[0, cursor]).captures
      matches = names(receiver, link).uniq.select { |name| name.start_with?(prefix) && name.match?(/\A[@$[:alpha:]_]/) }
      matches = matches.sort.first(MAX_MATCHES).join("\n")
      [{ type: "complete", start: cursor - prefix.length, end: cursor }, { matches: matches }]
    end

    def inspect(code, cursor)
      before = code[0, cursor]
      after = code[cursor..].to_s[/\A[[:word:]]*[?!]?/]
      receiver, link, name = CHAIN.match(before + after).captures
      text = name.empty? ? nil : describe(receiver, link, name)
      [{ type: "inspect", found: !text.nil? }, { text: Results.cut(text.to_s, MAX_TEXT) }]
    end

    private

    def names(receiver, link)
      return all_names if receiver.nil?

      found, object = look_up(receiver)
      return [] unless found
      return object.constants.map(&:to_s) if link == "::" && object.is_a?(Module)

      object.methods.map(&:to_s)
    rescue NoMethodError
      [] # a BasicObject
    end

    def all_names
      main = @binding.receiver
      KEYWORDS + [@binding.local_variables, main.instance_variables, global_variables, Object.constants,
                  main.methods, main.private_methods].flatten.map(&:to_s)
    end

    def describe(receiver, link, name)
      found, object = look_up(receiver ? [receiver, link, name].join : name) if receiver.nil? || link == "::"
      return "#{object.class}: #{Results.text(object)}" if found

      found, object = receiver ? look_up(receiver) : [true, @binding.receiver]
      return unless found && object.respond_to?(name, receiver.nil?)

      method = object.method(name)
      [method.inspect, method.source_location&.join(":")].compact.join("\n")
    rescue NameError
      nil
    end

    # Return whether a name has a value, and the value.
    def look_up(name)
      value =
        case name
        when /\A\$/ then global_variables.include?(name.to_sym) ? @binding.eval(name) : (return [false, nil])
        when /\A@@/ then return [false, nil]
        when /\A@/ then @binding.receiver.instance_variable_get(name)
        when /\A[[:upper:]]/ then constant(name)
        else @binding.local_variable_get(name)
        end
      [true, value]
    rescue NameError
      [false, nil]
    end

    def constant(name)
      name.split("::").reduce(Object) do |place, part|
        raise NameError if place.autoload?(part) # loading would run code

        place.const_get(part)
      end
    end
  end
end
