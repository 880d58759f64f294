// Readiness of a descriptor on the event loop of the environment.
#pragma once

#include <memory>
#include <optional>

#include <napi.h>

#include "libuv.h"
#include "registry.h"

namespace addon {

/**
 * Alive while open, also when JavaScript has dropped its handle, as Node's own handles are. After close() the
 * memory of the uv handle belongs to libuv until its closing callback.
 */
class Watch : public std::enable_shared_from_this<Watch> {
 public:
  explicit Watch(std::shared_ptr<Registry> registry) : registry_(std::move(registry)) {}

  /** 0 or errno. */
  int open(Napi::Env env, int fd, Napi::Function callback);
  /** 0 or errno. No events: paused. */
  int setEvents(int events);
  void setRef(bool ref);
  /** The descriptor is out of the loop on return. */
  void close();

  bool closed() const { return handle_ == nullptr; }

 private:
  static void onReady(uv_poll_s* poll, int status, int events);
  static void onClosed(uv_handle_s* handle);
  void call(int events);
  void release();

  uv_poll_s* poll() const { return reinterpret_cast<uv_poll_s*>(handle_); }

  std::shared_ptr<Registry> registry_;
  uv_handle_s* handle_ = nullptr;
  Napi::FunctionReference callback_;
  std::optional<Napi::AsyncContext> context_;
  bool calling_ = false;
};

/** What a Watch of index.ts holds. */
struct WatchHandle {
  static constexpr napi_type_tag tag = {0x2d97f8b4c06a4513, 0x81bc5e70a94d3f26};
  std::shared_ptr<Watch> watch;
};

}  // namespace addon
