// The module: its exports, and per environment the registry of what is open and the hook that ends it.
#include <napi.h>

#include "args.h"
#include "clear.h"
#include "exports.h"
#include "mapping.h"
#include "registry.h"
#include "sigbus.h"
#include "watch.h"

namespace addon {

Napi::Value systemError(Napi::Env env, int error, const char* call) {
  auto& made = env.GetInstanceData<Instance>()->systemError;
  return made.New({Napi::Number::New(env, error), Napi::String::New(env, call)});
}

Napi::Value fail(Napi::Env env, int error, const char* call) {
  const auto thrown = systemError(env, error, call);
  if (!env.IsExceptionPending()) napi_throw(env, thrown);
  return {};
}

namespace {

/** libuv needs turns of the loop to let go of watches, hence the asynchronous kind of hook. */
void onEnvironmentEnd(napi_async_cleanup_hook_handle hook, void* data) {
  const auto* owner = static_cast<std::shared_ptr<Registry>*>(data);
  const std::shared_ptr<Registry> registry = *owner;
  delete owner;
  while (!registry->watches.empty()) (*registry->watches.begin())->close();
  while (!registry->regions.empty()) (*registry->regions.begin())->unmap();
  for (const auto& clear : registry->clears) clear->abandon();
  registry->ending = hook;
  registry->answerEnding();
}

// setErrorClass(SystemError)
Napi::Value setErrorClass(const Napi::CallbackInfo& info) {
  info.Env().GetInstanceData<Instance>()->systemError = Napi::Persistent(info[0].As<Napi::Function>());
  return {};
}

// registrySize(): [mappings, watches, guards, clears]
Napi::Value registrySize(const Napi::CallbackInfo& info) {
  const auto& registry = registryOf(info.Env());
  const size_t sizes[] = {registry->regions.size(), registry->watches.size(), sigbus::guards(),
                          registry->clears.size()};
  auto list = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < std::size(sizes); i++) list.Set(i, static_cast<double>(sizes[i]));
  return list;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance;
  env.SetInstanceData(instance);
  auto* owner = new std::shared_ptr<Registry>(instance->registry);
  if (napi_add_async_cleanup_hook(env, onEnvironmentEnd, owner, nullptr) != napi_ok) {
    delete owner;
    Napi::Error::New(env, "the environment is ending").ThrowAsJavaScriptException();
    return exports;
  }
  expose<setErrorClass>(exports, "setErrorClass");
  expose<registrySize>(exports, "registrySize");
  exposeAddressSpaces(exports);
  exposeBuffers(exports);
  exposeClears(exports);
  exposeDmaBufs(exports);
  exposeEncoders(exports);
  exposeEvents(exports);
  exposeMappings(exports);
  exposePixels(exports);
  exposeScheduling(exports);
  exposeSockets(exports);
  return exports;
}

NODE_API_MODULE(vfio_user_gpu, initialise)

}  // namespace
}  // namespace addon
