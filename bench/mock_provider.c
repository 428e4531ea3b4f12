/* A provider that costs next to nothing: one thread, one epoll, canned answers, loopback only.
 *
 *   mock_provider PORT [EVENTS]
 *
 * Any POST gets an Anthropic message: JSON of about 1.4 KB, or EVENTS server-sent events (default 60)
 * when the body asks for a stream; a path with "chat/completions" gets the same in OpenAI's format.
 * Every event is a chunk and a send of its own. The words "bench-pace: N" in the body's first 4 KB put N ms
 * between two events: a gateway may keep a client's headers to itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 8192, INPUT_MAX = 4 << 20, EVENTS_MAX = 4096, TIMERS = 65536, PACE_WITHIN = 4096 };
enum { ANTHROPIC, OPENAI, DIALECTS };

typedef struct {
    char *input;
    int length;
    int streaming, dialect, next_event, pace_ms;
    uint32_t generation; /* tells a timer whether its connection is still the one it was set for */
    uint64_t due;
} connection;

/* Timers in the order in which they were set; a connection whose pace differs only fires late, never early. */
typedef struct {
    int fd;
    uint32_t generation;
    uint64_t due;
} timer;

static connection connections[CONNECTIONS_MAX];
static timer timers[TIMERS];
static unsigned first_timer, last_timer;
static char *events[DIALECTS][EVENTS_MAX], *plain[DIALECTS], *stream_head;
static int event_count = 60, poller;

static const char *COMMON_HEADERS =
    "date: Sun, 01 Nov 2026 10:00:00 GMT\r\nserver: mock\r\nrequest-id: req_bench_000000000000000000\r\n"
    "anthropic-organization-id: 00000000-0000-0000-0000-000000000000\r\n"
    "anthropic-ratelimit-requests-limit: 4000\r\nanthropic-ratelimit-requests-remaining: 3999\r\n"
    "anthropic-ratelimit-requests-reset: 2026-11-01T10:00:00Z\r\nanthropic-ratelimit-tokens-limit: 400000\r\n"
    "anthropic-ratelimit-tokens-remaining: 399000\r\nanthropic-ratelimit-tokens-reset: 2026-11-01T10:00:00Z\r\n"
    "via: 1.1 mock\r\nx-cache-status: DYNAMIC\r\nx-ray: 0000000000000000-BEN\r\n";

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static char *print(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *print(const char *format, ...) {
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) exit(2);
    va_end(arguments);
    return text;
}

static char *whole_answer(char *body) {
    return print("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n%s", COMMON_HEADERS, strlen(body), body);
}

static char *chunk(char *body) { return print("%zx\r\n%s\r\n", strlen(body), body); }

static void build_plain(void) {
    char text[1200];
    int length = 0;
    while (length < 1050) length += sprintf(text + length, "Every posting has its counterpart, number %d. ", length);
    plain[ANTHROPIC] = whole_answer(print(
        "{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-6\",\"content\":[{\"type\":\"text\",\"text\":\"%s\"}],"
        "\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":512,\"cache_creation_input_tokens\":0,"
        "\"cache_read_input_tokens\":128,\"output_tokens\":256,\"service_tier\":\"standard\"}}", text));
    plain[OPENAI] = whole_answer(print(
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1767225600,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"message\":"
        "{\"role\":\"assistant\",\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":640,"
        "\"completion_tokens\":256,\"total_tokens\":896,\"prompt_tokens_details\":{\"cached_tokens\":128}}}", text));
}

static char *anthropic_event(int i) {
    if (i == 0)
        return print("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\","
                     "\"model\":\"claude-sonnet-4-6\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":512,"
                     "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":128,\"output_tokens\":1}}}\n\n");
    if (i == 1) return print("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    if (i == 2) return print("event: ping\ndata: {\"type\":\"ping\"}\n\n");
    if (i == event_count - 3) return print("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
    if (i == event_count - 2)
        return print("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                     "\"usage\":{\"output_tokens\":256}}\n\n");
    if (i == event_count - 1) return print("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    return print("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\","
                 "\"text\":\" token number %d of\"}}\n\n", i);
}

static char *openai_event(int i) {
    const char *frame = "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"gpt-4o\",";
    if (i == event_count - 1) return print("data: [DONE]\n\n");
    if (i == event_count - 2)
        return print("%s\"choices\":[],\"usage\":{\"prompt_tokens\":640,\"completion_tokens\":256,\"total_tokens\":896,"
                     "\"prompt_tokens_details\":{\"cached_tokens\":128}}}\n\n", frame);
    return print("%s\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token number %d of\"},\"finish_reason\":%s}],\"usage\":null}\n\n", frame, i,
        i == event_count - 3 ? "\"stop\"" : "null");
}

static void build_answers(void) {
    build_plain();
    stream_head = print("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n%stransfer-encoding: chunked\r\n\r\n",
        COMMON_HEADERS);
    for (int i = 0; i < event_count; i++) {
        events[ANTHROPIC][i] = chunk(anthropic_event(i));
        events[OPENAI][i] = chunk(openai_event(i));
    }
}

static void drop(int fd) {
    connection *c = &connections[fd];
    c->generation++;
    c->streaming = c->length = 0;
    close(fd);
}

/* Answers are small and readers fast, so a full socket buffer is waited out. */
static int send_all(int fd, const char *data) {
    size_t left = strlen(data);
    while (left) {
        ssize_t sent = send(fd, data, left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            usleep(50);
            continue;
        }
        if (sent < 0) {
            drop(fd);
            return 0;
        }
        data += sent;
        left -= sent;
    }
    return 1;
}

static void send_events(int fd) {
    connection *c = &connections[fd];
    for (;;) {
        if (!send_all(fd, events[c->dialect][c->next_event])) return;
        if (++c->next_event == event_count) {
            c->streaming = 0;
            send_all(fd, "0\r\n\r\n");
            return;
        }
        if (c->pace_ms) {
            c->due += c->pace_ms * 1000ull;
            timers[last_timer++ % TIMERS] = (timer){fd, c->generation, c->due};
            return;
        }
    }
}

/* Return the whole length of the request at the start of the input, or 0 while it is incomplete. */
static int request_length(connection *c, int *head_length) {
    char *end = memmem(c->input, c->length, "\r\n\r\n", 4), *field;
    if (!end) return 0;
    *head_length = (int)(end - c->input) + 4;
    char first = c->input[*head_length];
    c->input[*head_length] = 0; /* the search for fields must not walk through a long body */
    int chunked = strcasestr(c->input, "\ntransfer-encoding:") != NULL;
    int body = (field = strcasestr(c->input, "\ncontent-length:")) ? atoi(field + 16) : 0;
    c->input[*head_length] = first;
    if (chunked) {
        char *last = memmem(end + 2, c->length - *head_length + 2, "\r\n0\r\n\r\n", 7);
        return last ? (int)(last - c->input) + 7 : 0;
    }
    return c->length >= *head_length + body ? *head_length + body : 0;
}

static void answer_requests(int fd) {
    connection *c = &connections[fd];
    int head, whole;
    c->input[c->length] = 0;
    while (!c->streaming && (whole = request_length(c, &head))) {
        char *body = c->input + head, *pace = memmem(body, whole - head < PACE_WITHIN ? whole - head : PACE_WITHIN, "bench-pace: ", 12);
        int streamed = memmem(body, whole - head, "\"stream\":true", 13) || memmem(body, whole - head, "\"stream\": true", 14);
        c->dialect = memmem(c->input, head, "chat/completions", 16) ? OPENAI : ANTHROPIC;
        c->pace_ms = pace ? atoi(pace + 12) : 0;
        c->length -= whole;
        memmove(c->input, c->input + whole, c->length + 1);
        if (!streamed) {
            if (!send_all(fd, plain[c->dialect])) return;
            continue;
        }
        c->streaming = 1;
        c->next_event = 0;
        c->due = now_us();
        if (!send_all(fd, stream_head)) return;
        send_events(fd);
    }
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CONNECTIONS_MAX) {
            close(fd);
            continue;
        }
        connection *c = &connections[fd];
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (!c->input && !(c->input = malloc(INPUT_MAX + 1))) exit(2);
        c->length = c->streaming = 0;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}

static void receive(int fd) {
    connection *c = &connections[fd];
    int length = recv(fd, c->input + c->length, INPUT_MAX - c->length, 0);
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
        drop(fd);
        return;
    }
    c->length += length;
    answer_requests(fd);
}

static int milliseconds_to_next_timer(void) {
    if (first_timer == last_timer) return -1;
    int64_t left = (int64_t)(timers[first_timer % TIMERS].due - now_us());
    return left <= 0 ? 0 : (int)((left + 999) / 1000);
}

static void fire_timers(void) {
    uint64_t now = now_us();
    while (first_timer != last_timer && timers[first_timer % TIMERS].due <= now) {
        timer t = timers[first_timer++ % TIMERS];
        if (connections[t.fd].generation != t.generation || !connections[t.fd].streaming) continue;
        send_events(t.fd);
        if (!connections[t.fd].streaming && connections[t.fd].generation == t.generation) answer_requests(t.fd);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "usage: mock_provider PORT [EVENTS]\n"), 2;
    if (argc > 2) event_count = atoi(argv[2]);
    if (event_count < 6 || event_count > EVENTS_MAX) return fprintf(stderr, "EVENTS must be 6 to %d\n", EVENTS_MAX), 2;
    signal(SIGPIPE, SIG_IGN);
    build_answers();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return perror("listen"), 1;
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    for (struct epoll_event ready[256];;) {
        int count = epoll_wait(poller, ready, 256, milliseconds_to_next_timer());
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener) accept_all(listener);
            else receive(ready[i].data.fd);
        }
        fire_timers();
    }
}
