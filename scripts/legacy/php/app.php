<?php
// The original browser-agent API in plain PHP with curl: no client that outlives a request, nothing to keep open.
//
// A router for `php -S`, as `run` starts it; behind PHP-FPM or mod_php it is the front controller for /api/*.
//
// SPAWNLING_URL     where the gateway is (default http://127.0.0.1:5001)
// SPAWNLING_TOKEN   sent as a bearer token when set
// BROWSER_TIMEOUT   seconds that a task may take (default 600)

declare(strict_types=1);

define('GATEWAY', rtrim(getenv('SPAWNLING_URL') ?: 'http://127.0.0.1:5001', '/'));
define('TIMEOUT', (int) (getenv('BROWSER_TIMEOUT') ?: 600));

/** Why a call failed; its code is the status to say so with. */
class CallFailed extends RuntimeException
{
}

/** Sends one request to the gateway. Returns its status and its JSON. */
function gateway(string $path, array $options): array
{
    $headers = ['Content-Type: application/json', 'Spawnling-Timeout: ' . TIMEOUT . 's'];
    if (getenv('SPAWNLING_TOKEN')) {
        $headers[] = 'Authorization: Bearer ' . getenv('SPAWNLING_TOKEN');
    }
    $curl = curl_init(GATEWAY . $path);
    // The gateway is near, whatever http_proxy says.
    curl_setopt_array($curl, $options + [
        CURLOPT_HTTPHEADER => $headers, CURLOPT_RETURNTRANSFER => true, CURLOPT_NOPROXY => '*', CURLOPT_CONNECTTIMEOUT => 5,
    ]);
    $answer = curl_exec($curl);
    $body = is_string($answer) ? json_decode($answer, true) : null;
    if (!is_array($body)) {
        throw new CallFailed('the gateway at ' . GATEWAY . ' did not answer: ' . (curl_error($curl) ?: 'no JSON'), 502);
    }
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $body];
}

/** Calls an MCP tool in a process of its own; returns its text. */
function call_tool(string $server, string $tool, array $arguments): string
{
    [$status, $body] = gateway("/v1/servers/$server/tools/$tool", [
        CURLOPT_POSTFIELDS => json_encode((object) $arguments, JSON_THROW_ON_ERROR),
        CURLOPT_TIMEOUT => TIMEOUT + 20, // a little longer than the gateway, so that its explanation arrives
    ]);
    if ($status !== 200) {
        throw new CallFailed(explanation($body), $status);
    }
    return texts($body);
}

function texts(array $result): string
{
    $items = array_filter($result['content'] ?? [], fn ($item) => ($item['type'] ?? '') === 'text');
    return implode("\n", array_column($items, 'text'));
}

/** What the tool itself complained about, if it ran; else what the gateway says (RFC 9457). */
function explanation(array $problem): string
{
    return texts($problem['result'] ?? []) ?: $problem['detail'] ?? $problem['title'] ?? 'unknown error';
}

function browser_agent(): array
{
    $task = json_decode(file_get_contents('php://input'), true)['task'] ?? null;
    if (!is_string($task) || trim($task) === '') {
        throw new CallFailed('No task provided', 400);
    }
    return ['success' => true, 'result' => call_tool('browser', 'run_browser_agent', ['task' => $task])];
}

function health(): array
{
    try {
        [$status, $body] = gateway('/api/health', [CURLOPT_TIMEOUT => 5]);
        $available = $status === 200 && ($body['mcp_available'] ?? false) === true;
    } catch (CallFailed) {
        $available = false;
    }
    return ['status' => 'healthy', 'mcp_available' => $available];
}

try {
    $answer = match ($_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
        'POST /api/browser-agent' => browser_agent(),
        'GET /api/health' => health(),
        'POST /api/disconnect' => [
            'success' => true,
            'message' => 'No persistent connection maintained. Each request uses a fresh connection.',
        ],
        default => throw new CallFailed('No such page', 404),
    };
} catch (CallFailed $failure) {
    http_response_code($failure->getCode());
    $answer = ['success' => false, 'error' => $failure->getMessage()];
}
header('Content-Type: application/json');
echo json_encode($answer, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE), "\n";
