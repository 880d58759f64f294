// What one environment (the main thread or a worker) holds: everything still open, so that its end closes it.
#pragma once

#include <memory>
#include <unordered_set>

#include <napi.h>

namespace addon {

class Clear;
class Region;
class Watch;

struct Registry {
  std::unordered_set<Region*> regions;
  std::unordered_set<std::shared_ptr<Watch>> watches;
  /** Those whose request libuv still has. */
  std::unordered_set<std::shared_ptr<Clear>> clears;
  /** Watches that libuv has not let go of yet; the loop must not end before. */
  size_t closingWatches = 0;
  /** Set once the environment ends; removed, and thus answered, when libuv has nothing of ours any more. */
  napi_async_cleanup_hook_handle ending = nullptr;

  void answerEnding() {
    if (ending == nullptr || closingWatches > 0 || !clears.empty()) return;
    napi_remove_async_cleanup_hook(std::exchange(ending, nullptr));
  }
};

struct Instance {
  std::shared_ptr<Registry> registry = std::make_shared<Registry>();
  Napi::FunctionReference systemError;
};

inline const std::shared_ptr<Registry>& registryOf(Napi::Env env) {
  return env.GetInstanceData<Instance>()->registry;
}

}  // namespace addon
