/* A closed-loop HTTP/1.1 load generator: one thread, one epoll, loopback only.
 *
 *   load PORT PATH BODY_FILE CONCURRENCY REQUESTS SECONDS [-n] [-s MS] [-r RATE] [-H 'name: value']...
 *
 * Every connection sends its next request as soon as it has read the last answer; -n opens a new
 * connection for every request, else all are open before the first request leaves. -s spreads the
 * first requests over MS milliseconds; -r begins no more than RATE a second. After REQUESTS requests or SECONDS seconds, whichever comes
 * first, no more are begun, and those under way have a minute to end; 1000 errors end the run at
 * once. One JSON line goes to stdout: counts, requests a second, and percentiles of the whole answer
 * and of the first byte of its body, in ms. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384, BODY_MAX = 4 << 20, ERRORS_MAX = 1000, CONNECTIONS_MAX = 4096, READ_MAX = 262144, GRACE_SECONDS = 60 };

typedef struct {
    int fd, busy, waits, sent; /* busy: a request is under way; waits: for its turn by the rate; sent: bytes of it that have left */
    int in_body, status, chunked, close_after, until_close;
    long body_left; /* with a content-length */
    char head[HEAD_MAX];
    int head_length;
    char tail[5]; /* the latest bytes of a chunked body: it ends with 0 CRLF CRLF */
    double began, first_byte;
} connection;

static struct sockaddr_in target;
static int poller, new_connections, in_air, waiting;
static double deadline, rate, began;
static char *request;
static int request_length;
static long wanted, started, done, errors, refused, last_refusal, body_bytes;
static double *total_ms, *first_byte_ms;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(2);
}

static void watch(connection *c, int events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e) && epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

static void open_connection(connection *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) die("connect");
}

static void begin_request(connection *c) {
    c->busy = started < wanted && now() < deadline;
    waiting -= c->waits;
    c->waits = c->busy && rate && started >= rate * (now() - began);
    waiting += c->waits;
    if (c->waits) c->busy = 0;
    if (!c->busy) return;
    started++;
    in_air++;
    c->sent = c->head_length = c->in_body = 0;
    c->first_byte = 0;
    memset(c->tail, 0, sizeof c->tail);
    c->began = now();
    watch(c, EPOLLOUT);
}

static void end_request(connection *c, int ok) {
    in_air--;
    if (ok) {
        total_ms[done] = (now() - c->began) * 1e3;
        first_byte_ms[done] = (c->first_byte - c->began) * 1e3;
        done++;
        if (c->status != 200) {
            refused++;
            last_refusal = c->status;
        }
    } else {
        errors++;
    }
    if (new_connections || !ok || c->close_after) {
        close(c->fd);
        c->busy = 0;
        if (started >= wanted || now() >= deadline) return;
        open_connection(c);
    }
    begin_request(c);
}

static void read_body(connection *c, const char *data, int length) {
    if (length <= 0) return;
    body_bytes += length;
    if (!c->first_byte) c->first_byte = now();
    if (!c->chunked) {
        c->body_left -= length;
        if (c->body_left <= 0 && !c->until_close) end_request(c, 1);
        return;
    }
    if (length >= 5) {
        memcpy(c->tail, data + length - 5, 5);
    } else {
        memmove(c->tail, c->tail + length, 5 - length);
        memcpy(c->tail + 5 - length, data, length);
    }
    if (!memcmp(c->tail, "0\r\n\r\n", 5)) end_request(c, 1);
}

static void read_head(connection *c, const char *data, int length) {
    int before = c->head_length, room = HEAD_MAX - 1 - before, taken = length < room ? length : room;
    memcpy(c->head + c->head_length, data, taken);
    c->head_length += taken;
    c->head[c->head_length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (taken == room) end_request(c, 0); /* no head is that long */
        return;
    }
    end[2] = 0;
    int body_in_buffer = length - ((int)(end + 4 - c->head) - before); /* the copy of the head may hold less of it */
    char *content_length = strcasestr(c->head, "\ncontent-length:");
    c->status = atoi(c->head + 9);
    c->chunked = strcasestr(c->head, "\ntransfer-encoding: chunked") != NULL;
    c->close_after = strcasestr(c->head, "\nconnection: close") != NULL;
    c->body_left = content_length ? atol(content_length + 16) : 0;
    c->until_close = !c->chunked && !content_length;
    c->in_body = 1;
    if (content_length && c->body_left == 0) {
        c->first_byte = now();
        end_request(c, 1);
        return;
    }
    read_body(c, data + length - body_in_buffer, body_in_buffer);
}

static void receive(connection *c) {
    static char buffer[READ_MAX];
    int length = recv(c->fd, buffer, sizeof buffer, 0);
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
        int complete = length == 0 && c->in_body && c->until_close;
        c->close_after = 1;
        end_request(c, complete);
    } else if (c->in_body) {
        read_body(c, buffer, length);
    } else {
        read_head(c, buffer, length);
    }
}

static void transmit(connection *c) {
    int length = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
    if (length < 0) {
        if (errno != EAGAIN) end_request(c, 0);
        return;
    }
    c->sent += length;
    if (c->sent == request_length) watch(c, EPOLLIN);
}

/* The headers are those that an official client sends: 15 of them, as the gateway will meet them. */
static void build_request(const char *port, const char *path, const char *body_file, const char *extra) {
    static char body[BODY_MAX];
    FILE *file = fopen(body_file, "r");
    if (!file) die(body_file);
    size_t body_length = fread(body, 1, sizeof body, file);
    fclose(file);
    request = malloc(body_length + 2 * HEAD_MAX);
    request_length = sprintf(request,
        "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%s\r\naccept: application/json\r\naccept-encoding: identity\r\n"
        "content-type: application/json\r\nuser-agent: Anthropic/Python 2.12.0\r\nx-stainless-lang: python\r\n"
        "x-stainless-package-version: 2.12.0\r\nx-stainless-os: Linux\r\nx-stainless-arch: x64\r\n"
        "x-stainless-runtime: CPython\r\nx-stainless-runtime-version: 3.13.0\r\nx-stainless-async: async:asyncio\r\n"
        "anthropic-version: 2023-06-01\r\n%sconnection: %s\r\ncontent-length: %zu\r\n\r\n",
        path, port, extra, new_connections ? "close" : "keep-alive", body_length);
    memcpy(request + request_length, body, body_length);
    request_length += (int)body_length;
}

/* A connection that is open takes no time from the first request on it. */
static void open_all(connection *connections, int concurrency) {
    for (int i = 0; i < concurrency; i++) open_connection(&connections[i]);
    if (!new_connections) usleep(20000 + 100 * concurrency);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(double seconds, int concurrency) {
    long count = done ? done : 1;
    qsort(total_ms, done, sizeof(double), compare);
    qsort(first_byte_ms, done, sizeof(double), compare);
    printf("{\"concurrency\": %d, \"asked\": %ld, \"done\": %ld, \"errors\": %ld, \"not_200\": %ld, \"last_refusal\": %ld, \"seconds\": %.3f, \"rps\": %.2f, "
           "\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"ttfb_p50_ms\": %.4f, \"ttfb_p99_ms\": %.4f, \"body_bytes\": %ld}\n",
        concurrency, started, done, errors, refused, last_refusal, seconds, done / seconds, total_ms[count / 2], total_ms[count * 99 / 100],
        first_byte_ms[count / 2], first_byte_ms[count * 99 / 100], body_bytes / count);
}

int main(int argc, char **argv) {
    char extra[HEAD_MAX / 2] = "";
    if (argc < 7) {
        fprintf(stderr, "usage: load PORT PATH BODY_FILE CONCURRENCY REQUESTS SECONDS [-n] [-s MS] [-r RATE] [-H header]...\n");
        return 2;
    }
    int concurrency = atoi(argv[4]);
    double seconds = atof(argv[6]), spread = 0;
    wanted = atol(argv[5]);
    for (int i = 7; i < argc; i++) {
        if (!strcmp(argv[i], "-n")) new_connections = 1;
        else if (!strcmp(argv[i], "-s") && i + 1 < argc) spread = atof(argv[++i]) / 1e3;
        else if (!strcmp(argv[i], "-r") && i + 1 < argc) rate = atof(argv[++i]);
        else if (!strcmp(argv[i], "-H") && i + 1 < argc && strlen(extra) + strlen(argv[i + 1]) + 3 < sizeof extra) strcat(strcat(extra, argv[++i]), "\r\n");
        else return fprintf(stderr, "unknown or too long: %s\n", argv[i]), 2;
    }
    if (concurrency < 1 || concurrency > CONNECTIONS_MAX || wanted < 1) return fprintf(stderr, "counts out of range\n"), 2;
    target.sin_family = AF_INET;
    target.sin_port = htons(atoi(argv[1]));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    build_request(argv[1], argv[2], argv[3], extra);
    total_ms = calloc(wanted + 1, sizeof(double));
    first_byte_ms = calloc(wanted + 1, sizeof(double));
    connection *connections = calloc(concurrency, sizeof(connection));
    if (!total_ms || !first_byte_ms || !connections) die("calloc");
    poller = epoll_create1(0);

    open_all(connections, concurrency);
    began = now();
    deadline = began + seconds;
    struct epoll_event events[256];
    int begun = 0;
    while ((in_air || waiting || (begun < concurrency && started < wanted)) && errors < ERRORS_MAX && now() < deadline + GRACE_SECONDS) {
        while (begun < concurrency && now() >= began + begun * spread / concurrency) begin_request(&connections[begun++]);
        for (int i = 0; waiting && i < begun; i++) {
            if (connections[i].waits) begin_request(&connections[i]);
        }
        int count = epoll_wait(poller, events, 256, begun < concurrency || waiting ? 1 : 100);
        for (int i = 0; i < count; i++) {
            connection *c = events[i].data.ptr;
            if (!c->busy) continue;
            if (events[i].events & EPOLLOUT) transmit(c);
            else receive(c);
        }
    }
    report(now() - began, concurrency);
    return 0;
}
