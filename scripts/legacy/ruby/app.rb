# The original browser-agent API in plain Ruby: WEBrick with a thread for each request, Net::HTTP, every call blocking.
# Under Puma or Passenger it is the same code in a Rack application.
#
#     ruby app.rb ADDRESS PORT
#
# SPAWNLING_URL     where the gateway is (default http://127.0.0.1:5001)
# SPAWNLING_TOKEN   sent as a bearer token when set
# BROWSER_TIMEOUT   seconds that a task may take (default 600)

require 'json'
require 'net/http'
require 'webrick'

GATEWAY = URI(ENV.fetch('SPAWNLING_URL', 'http://127.0.0.1:5001').chomp('/'))
TIMEOUT = ENV.fetch('BROWSER_TIMEOUT', '600').to_i
TOKEN = ENV.fetch('SPAWNLING_TOKEN', '')
HEADERS = { 'Content-Type' => 'application/json', 'Spawnling-Timeout' => "#{TIMEOUT}s" }
HEADERS['Authorization'] = "Bearer #{TOKEN}" unless TOKEN.empty?
THREADS = 8

# Why a call failed, and with which status to say so.
class CallFailed < StandardError
  attr_reader :status

  def initialize(status, reason)
    super(reason)
    @status = status
  end
end

# A connection for one request. No proxy: the gateway is near, whatever http_proxy says. And never a second try: a tool
# that has run has run.
def gateway(seconds)
  http = Net::HTTP.new(GATEWAY.host, GATEWAY.port, nil)
  http.use_ssl = GATEWAY.scheme == 'https'
  http.open_timeout, http.read_timeout, http.max_retries = 5, seconds, 0
  answer = yield http
  body = JSON.parse(answer.body)
  raise JSON::ParserError, 'no JSON object' unless body.is_a?(Hash)

  [answer.code.to_i, body]
rescue SystemCallError, SocketError, Timeout::Error, IOError, OpenSSL::SSL::SSLError, Net::ProtocolError, JSON::ParserError => e
  raise CallFailed.new(502, "the gateway at #{GATEWAY} did not answer: #{e.message}")
end

# Calls an MCP tool in a process of its own; returns its text.
def call_tool(server, tool, arguments)
  # A little longer than the gateway's own limit, so that its explanation arrives before we give up.
  status, body = gateway(TIMEOUT + 20) do |http|
    http.post("/v1/servers/#{server}/tools/#{tool}", JSON.generate(arguments), HEADERS)
  end
  raise CallFailed.new(status, explanation(body)) unless status == 200

  texts(body)
end

def texts(result)
  (result['content'] || []).select { |item| item['type'] == 'text' }.map { |item| item['text'] }.join("\n")
end

# What the tool itself complained about, if it ran; else what the gateway says (RFC 9457).
def explanation(problem)
  said = texts(problem['result'] || {})
  said.empty? ? problem['detail'] || problem['title'] || 'unknown error' : said
end

def browser_agent(request)
  body = begin
    JSON.parse(request.body.to_s)
  rescue JSON::ParserError
    nil
  end
  task = body['task'] if body.is_a?(Hash)
  raise CallFailed.new(400, 'No task provided') unless task.is_a?(String) && !task.strip.empty?

  { success: true, result: call_tool('browser', 'run_browser_agent', { task: task }) }
end

def health
  status, body = gateway(5) { |http| http.get('/api/health', HEADERS) }
  { status: 'healthy', mcp_available: status == 200 && body['mcp_available'] == true }
rescue CallFailed
  { status: 'healthy', mcp_available: false }
end

def answer(request)
  case "#{request.request_method} #{request.path}"
  when 'POST /api/browser-agent' then browser_agent(request)
  when 'GET /api/health' then health
  when 'POST /api/disconnect'
    { success: true, message: 'No persistent connection maintained. Each request uses a fresh connection.' }
  else raise CallFailed.new(404, 'No such page')
  end
end

server = WEBrick::HTTPServer.new(
  BindAddress: ARGV[0], Port: ARGV[1].to_i, MaxClients: THREADS, AccessLog: [],
  Logger: WEBrick::Log.new($stderr, WEBrick::Log::WARN)
)
server.mount_proc('/') do |request, response|
  response['Content-Type'] = 'application/json'
  response.body = JSON.generate(answer(request))
rescue CallFailed => e
  response.status = e.status
  response.body = JSON.generate({ success: false, error: e.message })
end
%w[INT TERM].each { |signal| trap(signal) { server.shutdown } }
warn "Listening at: http://#{ARGV[0]}:#{server.listeners.first.addr[1]}"
server.start
