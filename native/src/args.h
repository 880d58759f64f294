// Reads the arguments of a native function in a few Node-API calls each. Every value is checked here, so that
// nothing JavaScript passes can cause undefined behaviour; index.ts adds shapes, names and defaults.
#pragma once

#include <climits>
#include <cmath>
#include <cstdint>
#include <string>

#include <napi.h>

namespace addon {

constexpr uint64_t maxSafeInteger = (uint64_t{1} << 53) - 1;

template <typename T>
struct Array {
  T* data = nullptr;
  size_t length = 0;
};
using Bytes = Array<uint8_t>;

/** A SystemError (index.ts), for a callback. */
Napi::Value systemError(Napi::Env env, int error, const char* call);

/** Throws a SystemError (index.ts): the one way in which a failed system call leaves this addon. */
Napi::Value fail(Napi::Env env, int error, const char* call);

/**
 * Handles are externals that only index.ts can reach. The tag refuses one of another kind, and the externals
 * of other addons.
 */
template <typename T>
Napi::Value makeHandle(Napi::Env env, T* object) {
  auto handle = Napi::External<T>::New(env, object, [](Napi::Env, T* dead) { delete dead; });
  if (!env.IsExceptionPending()) handle.TypeTag(&T::tag);
  return handle;
}

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info), env_(info.Env()) {}

  /** An exception is pending: return to JavaScript, touch nothing that was read. */
  bool failed() const { return failed_; }

  uint64_t integer(size_t index, const char* name, uint64_t max = maxSafeInteger) {
    return integerOf(info_[index], name, max);
  }

  uint64_t integerOf(napi_value argument, const char* name, uint64_t max) {
    double value;
    if (failed_ || napi_get_value_double(env_, argument, &value) != napi_ok) {
      mistake<Napi::TypeError>(name, "must be a number");
      return 0;
    }
    if (!(value >= 0 && value <= static_cast<double>(max) && value == std::trunc(value))) {
      mistake<Napi::RangeError>(name, "must be an integer from 0 to " + std::to_string(max));
      return 0;
    }
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  }

  int fd(size_t index, const char* name = "fd") { return static_cast<int>(integer(index, name, INT_MAX)); }

  bool boolean(size_t index, const char* name) {
    bool value = false;
    if (failed_ || napi_get_value_bool(env_, info_[index], &value) != napi_ok) {
      mistake<Napi::TypeError>(name, "must be a boolean");
    }
    return value;
  }

  std::string string(size_t index, const char* name) {
    if (failed_ || !info_[index].IsString()) {
      mistake<Napi::TypeError>(name, "must be a string");
      return {};
    }
    return info_[index].As<Napi::String>().Utf8Value();
  }

  Bytes bytes(size_t index, const char* name) {
    return array<uint8_t, napi_uint8_array>(index, name, "must be a Uint8Array");
  }
  Array<int32_t> int32s(size_t index, const char* name) {
    return array<int32_t, napi_int32_array>(index, name, "must be an Int32Array");
  }
  Array<const double> doubles(size_t index, const char* name) {
    return array<const double, napi_float64_array>(index, name, "must be a Float64Array");
  }

  template <typename T>
  T* handle(size_t index) {
    bool matches = false;
    void* object = nullptr;
    if (failed_ || napi_check_object_type_tag(env_, info_[index], &T::tag, &matches) != napi_ok || !matches ||
        napi_get_value_external(env_, info_[index], &object) != napi_ok) {
      mistake<Napi::TypeError>("handle", "is not one of this addon's, or of another kind");
      return nullptr;
    }
    return static_cast<T*>(object);
  }

  template <typename Error>
  void mistake(const char* name, const std::string& text) {
    if (!failed_ && !env_.IsExceptionPending()) {
      Error::New(env_, std::string(name) + ' ' + text).ThrowAsJavaScriptException();
    }
    failed_ = true;
  }

 private:
  template <typename T, napi_typedarray_type wanted>
  Array<T> array(size_t index, const char* name, const char* text) {
    napi_typedarray_type type;
    void* data;
    size_t length;
    if (failed_ ||
        napi_get_typedarray_info(env_, info_[index], &type, &length, &data, nullptr, nullptr) != napi_ok ||
        type != wanted) {
      mistake<Napi::TypeError>(name, text);
      return {};
    }
    return {static_cast<T*>(data), length};
  }

  const Napi::CallbackInfo& info_;
  Napi::Env env_;
  bool failed_ = false;
};

}  // namespace addon
