// A waPC guest in C, without a C library: `greet` returns a greeting, `shout` asks the host for the payload in
// capitals, `spin` does not terminate, and any other operation is an error.

typedef unsigned int u32;

#define WAPC(name) __attribute__((import_module("wapc"), import_name(name)))

WAPC("__guest_request") void guest_request(char *operation, char *payload);
WAPC("__guest_response") void guest_response(const char *bytes, u32 length);
WAPC("__guest_error") void guest_error(const char *bytes, u32 length);
WAPC("__host_call")
int host_call(const char *binding, u32 binding_length, const char *namespace, u32 namespace_length,
              const char *operation, u32 operation_length, const char *payload, u32 payload_length);
WAPC("__host_response_len") u32 host_response_len(void);
WAPC("__host_response") void host_response(char *bytes);
WAPC("__host_error_len") u32 host_error_len(void);
WAPC("__host_error") void host_error(char *bytes);
WAPC("__console_log") void console_log(const char *bytes, u32 length);

static char operation[256], payload[65536], answer[65536];
static int ready;

static int is(const char *name, u32 length) {
  u32 i = 0;
  while (i < length && name[i] == operation[i]) i++;
  return i == length && name[i] == 0;
}

static u32 append(u32 at, const char *bytes, u32 length) {
  for (u32 i = 0; i < length && at < sizeof answer; i++) answer[at++] = bytes[i];
  return at;
}

__attribute__((export_name("wapc_init"))) void init(void) { ready = 1; }

__attribute__((export_name("__guest_call"))) int guest_call(u32 operation_length, u32 payload_length) {
  if (!ready || operation_length > sizeof operation || payload_length > sizeof payload) {
    guest_error("too long", 8);
    return 0;
  }
  guest_request(operation, payload);
  console_log(operation, operation_length);
  if (is("greet", operation_length)) {
    u32 length = append(append(0, "hello, ", 7), payload, payload_length);
    guest_response(answer, length);
    return 1;
  }
  if (is("shout", operation_length)) {
    if (host_call("text", 4, "case", 4, "upper", 5, payload, payload_length) != 1) {
      u32 length = host_error_len();
      if (length > sizeof answer) length = 0;
      else host_error(answer);
      guest_error(answer, length);
      return 0;
    }
    if (host_response_len() > sizeof answer) return 0;
    host_response(answer);
    guest_response(answer, host_response_len());
    return 1;
  }
  if (is("spin", operation_length)) {
    for (volatile u32 i = 0;; i++);
  }
  guest_error("no such operation", 17);
  return 0;
}
