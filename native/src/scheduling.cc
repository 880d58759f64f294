// Which thread runs first where there are fewer CPUs than threads with work: sched_setattr(2).
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "args.h"
#include "exports.h"

namespace addon {
namespace {

/** The first version of the kernel's `struct sched_attr`: its header and the C library's exclude each other. */
struct Attributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  /** Of SCHED_OTHER and SCHED_BATCH: the slice in nanoseconds. */
  uint64_t runtime;
  uint64_t deadline;
  uint64_t period;
};
static_assert(sizeof(Attributes) == 48);

constexpr int highestNice = 19;
/** More threads than libuv starts, whatever UV_THREADPOOL_SIZE says. */
constexpr uint32_t maxPoolThreads = 1024;
/** A thread of the pool that is busy for longer than this keeps what it had. */
constexpr auto gatherTime = std::chrono::milliseconds(100);

/** The calling thread's; nothing of a thread that somebody has given another policy is changed. */
template <typename Change>
const char* changeAttributes(Change change) {
  Attributes attributes{};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) < 0) return "sched_getattr";
  if (attributes.policy != SCHED_OTHER) return nullptr;
  change(attributes);
  return syscall(SYS_sched_setattr, 0, &attributes, 0) < 0 ? "sched_setattr" : nullptr;
}

const char* background(int niceBy) {
  return changeAttributes([niceBy](Attributes& attributes) {
    attributes.policy = SCHED_BATCH;
    attributes.nice = std::min(attributes.nice + niceBy, highestNice);
    attributes.runtime = 0;
  });
}

/** Threads of the pool wait here for each other: whoever waits takes no second turn. */
class Gathering {
 public:
  explicit Gathering(uint32_t expected) : missing_(expected) {}

  void arrive() {
    std::unique_lock lock(mutex_);
    missing_--;
    all_.notify_all();
    all_.wait_for(lock, gatherTime, [this] { return missing_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  uint32_t missing_;
};

class PoolTurn : public Napi::AsyncWorker {
 public:
  PoolTurn(Napi::Env env, int niceBy, std::shared_ptr<Gathering> gathering)
      : AsyncWorker(env, "vfio-user-gpu:background"), niceBy_(niceBy), gathering_(std::move(gathering)) {}

 protected:
  void Execute() override {
    background(niceBy_);
    gathering_->arrive();
  }

 private:
  const int niceBy_;
  const std::shared_ptr<Gathering> gathering_;
};

// setSlice(ns)
Napi::Value setSlice(const Napi::CallbackInfo& info) {
  Args args(info);
  const uint64_t slice = args.integer(0, "sliceNs");
  if (args.failed()) return {};
  const char* failed = changeAttributes([slice](Attributes& attributes) { attributes.runtime = slice; });
  return failed ? fail(info.Env(), errno, failed) : info.Env().Undefined();
}

// toBackground(niceBy, poolThreads)
Napi::Value toBackground(const Napi::CallbackInfo& info) {
  Args args(info);
  const int niceBy = static_cast<int>(args.integer(0, "niceBy", highestNice));
  const auto threads = static_cast<uint32_t>(args.integer(1, "poolThreads", maxPoolThreads));
  if (args.failed()) return {};
  if (const char* failed = background(niceBy)) return fail(info.Env(), errno, failed);
  const auto gathering = std::make_shared<Gathering>(threads);
  for (uint32_t i = 0; i < threads; i++) (new PoolTurn(info.Env(), niceBy, gathering))->Queue();
  return info.Env().Undefined();
}

}  // namespace

void exposeScheduling(Napi::Object exports) {
  expose<setSlice>(exports, "setSlice");
  expose<toBackground>(exports, "toBackground");
}

}  // namespace addon
