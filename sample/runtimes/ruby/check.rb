# Does something real with Ruby's compiled extensions.
require "bigdecimal"
require "digest"
require "json"
require "openssl"
require "psych"
require "readline"
require "socket"
require "stringio"
require "zlib"

text = "from source down to the system level " * 1000
raise "zlib" unless Zlib::Inflate.inflate(Zlib::Deflate.deflate(text)) == text
raise "digest" unless Digest::SHA256.hexdigest("abc").start_with?("ba7816bf")
raise "json" unless JSON.parse('{"a": [1, 2]}')["a"].sum == 3
raise "psych" unless Psych.load("a: [1, 2]") == { "a" => [1, 2] }
raise "bigdecimal" unless BigDecimal("0.1") + BigDecimal("0.2") == BigDecimal("0.3")

key = OpenSSL::PKey::RSA.new(2048)
cert = OpenSSL::X509::Certificate.new
cert.subject = cert.issuer = OpenSSL::X509::Name.parse("/CN=localhost")
cert.public_key = key.public_key
cert.serial = 1
cert.not_before = Time.now - 60
cert.not_after = Time.now + 3600
cert.sign(key, OpenSSL::Digest.new("SHA256"))
context = OpenSSL::SSL::SSLContext.new
context.cert = cert
context.key = key
tcp = TCPServer.new("127.0.0.1", 0)
server = OpenSSL::SSL::SSLServer.new(tcp, context)
thread = Thread.new do
  c = server.accept
  c.puts "over TLS"
  c.close
end
trusted = OpenSSL::SSL::SSLContext.new
trusted.cert_store = OpenSSL::X509::Store.new.add_cert(cert)
trusted.verify_mode = OpenSSL::SSL::VERIFY_PEER
client = OpenSSL::SSL::SSLSocket.new(TCPSocket.new("127.0.0.1", tcp.addr[1]), trusted)
client.connect
raise "openssl" unless client.gets == "over TLS\n"
thread.join
puts "Ruby #{RUBY_VERSION}: zlib #{Zlib.zlib_version}, #{OpenSSL::OPENSSL_LIBRARY_VERSION}, libyaml #{Psych.libyaml_version.join('.')}, readline, JSON, sockets"
