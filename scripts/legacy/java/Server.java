// The original browser-agent API in plain Java 17: the JDK's own server with a fixed pool of threads, its own HttpClient,
// every call blocking. No client of MCP, no future, nothing that outlives a request.
//
//     java Server.java ADDRESS PORT        (compiled in memory as it starts: needs a JDK)
//
// SPAWNLING_URL     where the gateway is (default http://127.0.0.1:5001)
// SPAWNLING_TOKEN   sent as a bearer token when set
// BROWSER_TIMEOUT   seconds that a task may take (default 600)

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;

public class Server {
    static final String GATEWAY = variable("SPAWNLING_URL", "http://127.0.0.1:5001").replaceAll("/+$", "");
    static final int TIMEOUT = Integer.parseInt(variable("BROWSER_TIMEOUT", "600"));
    static final int THREADS = 8;

    // HTTP/1.1: asked for nothing, it would offer h2c with every request in clear text.
    static final HttpClient CLIENT = HttpClient.newBuilder()
        .version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(5)).build();

    /** Why a call failed, and with which status to say so. */
    static class CallFailed extends Exception {
        final int status;

        CallFailed(int status, String reason) {
            super(reason);
            this.status = status;
        }
    }

    /** What the gateway said. */
    record Answer(int status, Map<?, ?> body) {}

    /** Calls an MCP tool in a process of its own; returns its text. */
    static String callTool(String server, String tool, Map<String, ?> arguments) throws CallFailed {
        var answer = send(HttpRequest.newBuilder(URI.create(GATEWAY + "/v1/servers/" + server + "/tools/" + tool))
            .header("Content-Type", "application/json").header("Spawnling-Timeout", TIMEOUT + "s")
            .timeout(Duration.ofSeconds(TIMEOUT + 20)) // a little longer, so that the gateway's explanation arrives
            .POST(BodyPublishers.ofString(Json.write(arguments))));
        if (answer.status() != 200) throw new CallFailed(answer.status(), explanation(answer.body()));
        return texts(answer.body());
    }

    static Answer send(HttpRequest.Builder request) throws CallFailed {
        var token = System.getenv("SPAWNLING_TOKEN");
        if (token != null && !token.isEmpty()) request.header("Authorization", "Bearer " + token);
        try {
            var answer = CLIENT.send(request.build(), BodyHandlers.ofString());
            if (Json.read(answer.body()) instanceof Map<?, ?> body) return new Answer(answer.statusCode(), body);
            throw new IOException("no JSON object");
        } catch (IOException | IllegalArgumentException error) {
            throw new CallFailed(502, "the gateway at " + GATEWAY + " did not answer: " + error);
        } catch (InterruptedException stopped) {
            throw new CallFailed(503, "this service is being stopped");
        }
    }

    static String texts(Object result) {
        var content = result instanceof Map<?, ?> map && map.get("content") instanceof List<?> list ? list : List.of();
        return content.stream()
            .filter(item -> item instanceof Map<?, ?> map && "text".equals(map.get("type")))
            .map(item -> String.valueOf(((Map<?, ?>) item).get("text"))).collect(Collectors.joining("\n"));
    }

    /** What the tool itself complained about, if it ran; else what the gateway says (RFC 9457). */
    static String explanation(Map<?, ?> problem) {
        var said = texts(problem.get("result"));
        if (!said.isEmpty()) return said;
        return String.valueOf(problem.get("detail") != null ? problem.get("detail") : problem.get("title"));
    }

    static Map<String, ?> browserAgent(HttpExchange exchange) throws IOException, CallFailed {
        var body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
        Object read;
        try {
            read = Json.read(body);
        } catch (IllegalArgumentException noJson) {
            read = null;
        }
        if (read instanceof Map<?, ?> map && map.get("task") instanceof String task && !task.isBlank()) {
            return ordered("success", true, "result", callTool("browser", "run_browser_agent", Map.of("task", task)));
        }
        throw new CallFailed(400, "No task provided");
    }

    static Map<String, ?> health() {
        var available = false;
        try {
            var answer = send(HttpRequest.newBuilder(URI.create(GATEWAY + "/api/health")).timeout(Duration.ofSeconds(5)));
            available = answer.status() == 200 && Boolean.TRUE.equals(answer.body().get("mcp_available"));
        } catch (CallFailed unavailable) {
            // That is what is said.
        }
        return ordered("status", "healthy", "mcp_available", available);
    }

    static void serve(HttpExchange exchange) throws IOException {
        var status = 200;
        Map<String, ?> answer;
        try {
            answer = switch (exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath()) {
                case "POST /api/browser-agent" -> browserAgent(exchange);
                case "GET /api/health" -> health();
                case "POST /api/disconnect" -> ordered("success", true, "message",
                    "No persistent connection maintained. Each request uses a fresh connection.");
                default -> throw new CallFailed(404, "No such page");
            };
        } catch (CallFailed failure) {
            status = failure.status;
            answer = ordered("success", false, "error", failure.getMessage());
        }
        var bytes = Json.write(answer).getBytes(StandardCharsets.UTF_8);
        try (exchange) {
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(status, bytes.length);
            exchange.getResponseBody().write(bytes);
        }
    }

    static Map<String, ?> ordered(String one, Object first, String other, Object second) {
        var map = new LinkedHashMap<String, Object>();
        map.put(one, first);
        map.put(other, second);
        return map;
    }

    static String variable(String name, String otherwise) {
        var value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    public static void main(String[] arguments) throws IOException {
        var address = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        var server = HttpServer.create(address, 0);
        server.createContext("/", Server::serve);
        // Each thread waits for one call. More callers than threads wait here, where nothing tells them how long.
        server.setExecutor(Executors.newFixedThreadPool(THREADS));
        server.start();
        System.err.println("Listening at: http:/" + server.getAddress());
    }

    /** JSON, which the JDK has not: Jackson or Gson in a service of yours. Throws IllegalArgumentException. */
    static class Json {
        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        static Object read(String text) {
            var json = new Json(text);
            var value = json.value(0);
            if (json.next() != 0) throw json.wrong();
            return value;
        }

        static String write(Object value) {
            if (value instanceof Map<?, ?> map) {
                return map.entrySet().stream().map(entry -> write(entry.getKey()) + ":" + write(entry.getValue()))
                    .collect(Collectors.joining(",", "{", "}"));
            }
            if (!(value instanceof String string)) return String.valueOf(value);
            return string.chars()
                .mapToObj(c -> c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", c) : String.valueOf((char) c))
                .collect(Collectors.joining("", "\"", "\""));
        }

        private Object value(int depth) {
            if (depth > 100) throw wrong();
            switch (next()) {
                case '{': {
                    var map = new LinkedHashMap<Object, Object>();
                    for (at++; next() != '}'; separated('}')) {
                        if (next() != '"') throw wrong();
                        var key = string();
                        if (next() != ':') throw wrong();
                        at++;
                        map.put(key, value(depth + 1));
                    }
                    at++;
                    return map;
                }
                case '[': {
                    var list = new ArrayList<Object>();
                    for (at++; next() != ']'; separated(']')) list.add(value(depth + 1));
                    at++;
                    return list;
                }
                case '"':
                    return string();
                default:
                    var start = at;
                    while (at < text.length() && "+-.eE".indexOf(text.charAt(at)) + 1 > 0
                        || at < text.length() && Character.isLetterOrDigit(text.charAt(at))) at++;
                    return switch (text.substring(start, at)) {
                        case "true" -> true;
                        case "false" -> false;
                        case "null" -> null;
                        default -> Double.valueOf(text.substring(start, at));
                    };
            }
        }

        private void separated(char end) {
            if (next() == ',') at++;
            else if (next() != end) throw wrong();
        }

        private String string() {
            var read = new StringBuilder();
            for (at++; at < text.length() && text.charAt(at) != '"'; at++) {
                if (text.charAt(at) != '\\') {
                    read.append(text.charAt(at));
                    continue;
                }
                if (++at + 4 >= text.length()) throw wrong();
                var place = "nrtbf".indexOf(text.charAt(at));
                if (text.charAt(at) == 'u') {
                    read.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                    at += 4;
                } else {
                    read.append(place < 0 ? text.charAt(at) : "\n\r\t\b\f".charAt(place));
                }
            }
            if (at++ >= text.length()) throw wrong();
            return read.toString();
        }

        /** The next character that is no white space, 0 at the end. */
        private char next() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
            return at < text.length() ? text.charAt(at) : 0;
        }

        private IllegalArgumentException wrong() {
            return new IllegalArgumentException("not JSON at " + at);
        }
    }
}
