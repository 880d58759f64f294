// What each file adds to the module.
#pragma once

#include <napi.h>

namespace addon {

void exposeAddressSpaces(Napi::Object exports);
void exposeBuffers(Napi::Object exports);
void exposeClears(Napi::Object exports);
void exposeDmaBufs(Napi::Object exports);
void exposeEncoders(Napi::Object exports);
void exposeEvents(Napi::Object exports);
void exposeMappings(Napi::Object exports);
void exposePixels(Napi::Object exports);
void exposeScheduling(Napi::Object exports);
void exposeSockets(Napi::Object exports);

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void expose(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<function>(exports.Env(), name));
}

}  // namespace addon
