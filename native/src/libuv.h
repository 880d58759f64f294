// The few functions of libuv that readiness callbacks and background work need. Node exports them from its
// executable, and Node-API hands out the loop (napi_get_uv_event_loop), but uv.h comes only with Node's full
// headers, which would be a download at install time. libuv keeps these signatures within its major version, and
// no layout is assumed: a handle is allocated by uv_handle_size(), a request by uv_req_size(), and both are touched
// through functions only.
#pragma once

#include <cstddef>

extern "C" {

struct uv_loop_s;
struct uv_handle_s;
struct uv_poll_s;
struct uv_req_s;
struct uv_work_s;

enum : int { UV_POLL = 8 };                                                // uv_handle_type
enum : int { UV_WORK = 7 };                                                // uv_req_type
enum : int { UV_READABLE = 1, UV_WRITABLE = 2, UV_DISCONNECT = 4 };        // uv_poll_event

size_t uv_handle_size(int type);
void* uv_handle_get_data(const uv_handle_s* handle);
void uv_handle_set_data(uv_handle_s* handle, void* data);
void uv_ref(uv_handle_s* handle);
void uv_unref(uv_handle_s* handle);
void uv_close(uv_handle_s* handle, void (*closed)(uv_handle_s* handle));

int uv_poll_init(uv_loop_s* loop, uv_poll_s* poll, int fd);
int uv_poll_start(uv_poll_s* poll, int events, void (*ready)(uv_poll_s* poll, int status, int events));
int uv_poll_stop(uv_poll_s* poll);

size_t uv_req_size(int type);
void* uv_req_get_data(const uv_req_s* request);
void uv_req_set_data(uv_req_s* request, void* data);
int uv_cancel(uv_req_s* request);
int uv_queue_work(uv_loop_s* loop, uv_work_s* request, void (*work)(uv_work_s* request),
                  void (*after)(uv_work_s* request, int status));

}  // extern "C"
