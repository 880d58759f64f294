// eventfds, and readiness callbacks on the event loop.
#include <cerrno>
#include <new>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "args.h"
#include "exports.h"
#include "os.h"
#include "watch.h"

namespace addon {

int Watch::open(Napi::Env env, int fd, Napi::Function callback) {
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return ENOSYS;
  handle_ = static_cast<uv_handle_s*>(::operator new(uv_handle_size(UV_POLL)));
  if (const int failed = uv_poll_init(loop, poll(), fd)) {
    ::operator delete(std::exchange(handle_, nullptr));
    return -failed;
  }
  // Owned by the handle until libuv says that it is closed.
  uv_handle_set_data(handle_, new std::shared_ptr<Watch>(shared_from_this()));
  callback_ = Napi::Persistent(callback);
  context_.emplace(env, "vfio-user-gpu:watch");
  registry_->watches.insert(shared_from_this());
  return 0;
}

int Watch::setEvents(int events) {
  return -(events == 0 ? uv_poll_stop(poll()) : uv_poll_start(poll(), events, onReady));
}

void Watch::setRef(bool ref) { ref ? uv_ref(handle_) : uv_unref(handle_); }

void Watch::close() {
  if (closed()) return;
  registry_->closingWatches++;
  uv_close(std::exchange(handle_, nullptr), onClosed);
  if (!calling_) release();
  registry_->watches.erase(shared_from_this());
}

void Watch::release() {
  callback_.Reset();
  context_.reset();
}

void Watch::onClosed(uv_handle_s* handle) {
  auto* owner = static_cast<std::shared_ptr<Watch>*>(uv_handle_get_data(handle));
  const std::shared_ptr<Registry> registry = (*owner)->registry_;
  delete owner;
  ::operator delete(handle);
  registry->closingWatches--;
  registry->answerEnding();
}

void Watch::onReady(uv_poll_s* poll, int status, int events) {
  const auto* handle = reinterpret_cast<uv_handle_s*>(poll);
  const std::shared_ptr<Watch> watch = *static_cast<std::shared_ptr<Watch>*>(uv_handle_get_data(handle));
  // libuv reports EPOLLERR as a failed status, and has stopped polling then.
  watch->call(status < 0 ? UV_DISCONNECT : events);
}

void Watch::call(int events) {
  const Napi::Env env = callback_.Env();
  const Napi::HandleScope scope(env);
  calling_ = true;
  const napi_value argument = Napi::Number::New(env, events);
  napi_make_callback(env, *context_, env.Global(), callback_.Value(), 1, &argument, nullptr);
  calling_ = false;
  if (closed()) release();
  // Nobody above us would catch it: hand it to process.on('uncaughtException'). A failed status without an
  // exception means that the environment is ending.
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

namespace {

/** The open watch of argument 0, or null with an exception pending. */
Watch* openWatch(const Napi::CallbackInfo& info, Args& args, const char* call) {
  auto* handle = args.handle<WatchHandle>(0);
  if (args.failed()) return nullptr;
  if (!handle->watch->closed()) return handle->watch.get();
  fail(info.Env(), EBADF, call);
  return nullptr;
}

constexpr int allEvents = UV_READABLE | UV_WRITABLE | UV_DISCONNECT;

// openWatch(fd, events, callback): handle
Napi::Value watch(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  const auto events = static_cast<int>(args.integer(1, "events", allEvents));
  if (!info[2].IsFunction()) args.mistake<Napi::TypeError>("callback", "must be a function");
  if (args.failed()) return {};
  const auto watch = std::make_shared<Watch>(registryOf(info.Env()));
  if (const int failed = watch->open(info.Env(), fd, info[2].As<Napi::Function>())) {
    return fail(info.Env(), failed, "uv_poll_init");
  }
  if (const int failed = watch->setEvents(events)) {
    watch->close();
    return fail(info.Env(), failed, "uv_poll_start");
  }
  return makeHandle(info.Env(), new WatchHandle{watch});
}

// setEvents(watch, events)
Napi::Value setEvents(const Napi::CallbackInfo& info) {
  Args args(info);
  Watch* watch = openWatch(info, args, "setEvents");
  if (watch == nullptr) return {};
  const auto events = static_cast<int>(args.integer(1, "events", allEvents));
  if (args.failed()) return {};
  const int failed = watch->setEvents(events);
  return failed ? fail(info.Env(), failed, "uv_poll_start") : Napi::Value();
}

// setRef(watch, ref)
Napi::Value setRef(const Napi::CallbackInfo& info) {
  Args args(info);
  Watch* watch = openWatch(info, args, "ref");
  if (watch == nullptr) return {};
  const bool ref = args.boolean(1, "ref");
  if (!args.failed()) watch->setRef(ref);
  return {};
}

// closeWatch(watch)
Napi::Value closeWatch(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.handle<WatchHandle>(0);
  if (!args.failed()) handle->watch->close();
  return {};
}

// createEventfd(): fd
Napi::Value createEventfd(const Napi::CallbackInfo& info) {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return fail(info.Env(), errno, "eventfd");
  return Napi::Number::New(info.Env(), fd);
}

// setNonBlocking(fd)
Napi::Value setNonBlocking(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (args.failed()) return {};
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return fail(info.Env(), errno, "fcntl");
  return {};
}

// signalEventfd(fd)
Napi::Value signalEventfd(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (args.failed()) return {};
  constexpr uint64_t one = 1;
  const ssize_t count = retry([&] { return write(fd, &one, sizeof(one)); });
  const bool alreadyFull = count < 0 && errno == EAGAIN;
  if (count < 0 && !alreadyFull) return fail(info.Env(), errno, "write");
  return {};
}

// drainEventfd(fd): count
Napi::Value drainEventfd(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (args.failed()) return {};
  uint64_t signals = 0;
  const ssize_t count = retry([&] { return read(fd, &signals, sizeof(signals)); });
  const bool notSignalled = count < 0 && errno == EAGAIN;
  if (count < 0 && !notSignalled) return fail(info.Env(), errno, "read");
  return Napi::Number::New(info.Env(), static_cast<double>(signals));
}

}  // namespace

void exposeEvents(Napi::Object exports) {
  expose<watch>(exports, "watch");
  expose<setEvents>(exports, "setEvents");
  expose<setRef>(exports, "setRef");
  expose<closeWatch>(exports, "closeWatch");
  expose<createEventfd>(exports, "createEventfd");
  expose<setNonBlocking>(exports, "setNonBlocking");
  expose<signalEventfd>(exports, "signalEventfd");
  expose<drainEventfd>(exports, "drainEventfd");
}

}  // namespace addon
