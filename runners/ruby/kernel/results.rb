# frozen_string_literal: true

require "json"

module RunyardKernel
  # Results of cells: values as MIME bundles, within the bounds of a cell.
  class Results
    MAX_RESULTS = 100
    MAX_BYTES = 10 * 1024 * 1024
    MAX_ID = 1000
    MAX_TEXT = 256 * 1024
    MAX_JSON = 1024 * 1024
    MAX_NODES = 100_000
    CUT = "… (truncated)"
    # Methods by which an object shows itself in other forms than `inspect`.
    METHODS = {
      to_html: "text/html", to_markdown: "text/markdown", to_svg: "image/svg+xml", to_latex: "text/latex",
      to_png: "image/png", to_jpeg: "image/jpeg",
    }.freeze
    BINARY = %r{\Aimage/(?!svg)|\Aapplication/pdf\z}

    attr_reader :dropped

    def initialize(messages)
      @messages = messages
      start(false)
    end

    # Begin a cell.
    def start(wanted)
      @wanted = wanted
      @count = @bytes = @dropped = 0
    end

    # Send the value of the last expression.
    def main(value)
      send(bundle(value), main: true) unless nil.equal?(value)
    end

    def show(value, id: nil, update: false)
      send(bundle(value), id: id, update: update)
    end

    # Send data of one type that is ready to be shown.
    def raw(type, value, id: nil, update: false)
      send({ type => encoded(type, value) }, id: id, update: update)
    end

    def clear(wait)
      @messages.write({ type: "clear", wait: wait ? true : false })
    end

    # Return the text of a value, whatever its methods do.
    def self.text(value)
      cut(utf8(value.inspect.to_s))
    rescue NoMemoryError, StandardError, SystemStackError, NotImplementedError => e
      "[cannot be inspected: #{e.class}]"
    end

    def self.cut(text, limit = MAX_TEXT)
      return text if text.bytesize <= limit

      text.byteslice(0, limit - CUT.bytesize).scrub("") + CUT
    end

    def self.utf8(text)
      return text.dup.force_encoding(Encoding::UTF_8).scrub if text.encoding == Encoding::BINARY

      text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
    end

    private

    def send(data, main: false, id: nil, update: false)
      return unless @wanted

      parts = data.to_h { |type, value| [type, type.end_with?("/json", "+json") ? JSON.generate(value) : value] }
      size = parts.values.sum(&:bytesize)
      if @count >= MAX_RESULTS || @bytes + size > MAX_BYTES
        @dropped += 1
        return
      end
      @count += 1
      @bytes += size
      id = id.nil? ? nil : Results.utf8(id.to_s)[0, MAX_ID]
      @messages.write({ type: "display", is_main_result: main, display_id: id, update: update ? true : false }, parts)
    end

    def bundle(value)
      data = { "text/plain" => Results.text(value) }
      case value
      when Hash, Array
        json = json(value)
        data["application/json"] = json unless json.nil?
      when Object # not a BasicObject, which may lack respond_to?
        METHODS.each { |name, type| add(data, value, name, type) }
      end
      data
    end

    def add(data, value, name, type)
      data[type] = encoded(type, value.public_send(name)) if value.respond_to?(name) && value.method(name).arity <= 0
    rescue StandardError, SystemStackError
      nil # it is shown without this form
    end

    def encoded(type, value)
      return json(value) if type.end_with?("/json", "+json")
      return [value.to_s].pack("m0") if BINARY.match?(type)

      Results.utf8(value.to_s)
    end

    # Return data as JSON has it, or nil where there is more in it, or too much.
    def json(value)
      @nodes = 0
      plain = plain(value, 0)
      JSON.generate(plain).bytesize <= MAX_JSON ? plain : nil
    rescue TypeError, JSON::GeneratorError
      nil
    end

    def plain(value, depth)
      raise TypeError if depth > 90 || (@nodes += 1) > MAX_NODES

      case value
      when nil, true, false, Integer then value
      when Float then value.finite? ? value : nil
      when String then Results.utf8(value)
      when Symbol then Results.utf8(value.to_s)
      when Array then value.map { |item| plain(item, depth + 1) }
      when Hash then value.to_h { |key, item| [key_text(key), plain(item, depth + 1)] }
      else raise TypeError
      end
    end

    def key_text(key)
      raise TypeError unless key.is_a?(String) || key.is_a?(Symbol)

      Results.utf8(key.to_s)
    end
  end
end

# Results for cells: `Runyard.display(value, id: nil, update: false)`, `Runyard.html(text)` and so on, and
# `Runyard.clear(wait: false)`. `Object#display` is Ruby's own and stays what it is.
module Runyard
  TYPES = {
    html: "text/html", markdown: "text/markdown", text: "text/plain", svg: "image/svg+xml", png: "image/png",
    jpeg: "image/jpeg", pdf: "application/pdf", latex: "text/latex", javascript: "application/javascript",
    json: "application/json",
  }.freeze

  class << self
    def kernel_results=(results)
      define_singleton_method(:display) { |value, **options| results.show(value, **options) }
      define_singleton_method(:clear) { |wait: false| results.clear(wait) }
      TYPES.each do |name, type|
        define_singleton_method(name) { |value, **options| results.raw(type, value, **options) }
      end
      singleton_class.remove_method(:kernel_results=)
    end
  end
end
