// Zeroes ranges of files without populating what they have no pages for: at once, or on libuv's thread pool.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include <napi.h>

#include "libuv.h"
#include "os.h"
#include "registry.h"

namespace addon {

/** Null on success, else the name of the call that failed, with errno. Knows nothing of JavaScript or threads. */
const char* clearRange(int fd, uint64_t offset, uint64_t length);

/**
 * One range, cleared once: by a thread of the pool, or by wait(), whichever comes first. Alive until libuv gives
 * the request back, also when JavaScript has dropped its handle. All but clear() belongs to the environment's thread.
 */
class Clear : public std::enable_shared_from_this<Clear> {
 public:
  Clear(std::shared_ptr<Registry> registry, OwnedFd fd, uint64_t offset, uint64_t length)
      : registry_(std::move(registry)), fd_(std::move(fd)), offset_(offset), length_(length) {}

  /** 0 or errno. */
  int start(Napi::Env env, Napi::Function done);
  /** The range is cleared on return, or failed() says why not. Nothing is called back any more. */
  void wait();
  /** For the end of the environment: nothing is called back, and what has not begun does not begin. */
  void abandon();

  /** Null, or the name of the call that failed with error(). Known once the work is done. */
  const char* failed() const { return failed_; }
  int error() const { return error_; }

 private:
  struct Done {
    Napi::FunctionReference callback;
    Napi::AsyncContext context;
  };

  static void onThread(uv_work_s* request);
  static void onLoop(uv_work_s* request, int status);
  void clear();
  void callDone();

  std::shared_ptr<Registry> registry_;
  OwnedFd fd_;
  const uint64_t offset_;
  const uint64_t length_;
  /** Null once libuv has given it back. */
  uv_work_s* request_ = nullptr;
  std::optional<Done> done_;
  const char* failed_ = nullptr;
  int error_ = 0;
  /** Publishes the two above. */
  std::atomic<bool> finished_ = false;
};

/** What a BackgroundClear of index.ts holds. */
struct ClearHandle {
  static constexpr napi_type_tag tag = {0x61c0d3e58a9b4f27, 0xb4f7a2096ed1538c};
  std::shared_ptr<Clear> clear;
};

}  // namespace addon
