#include "address_space.h"

#include <cerrno>
#include <cstring>

#include "exports.h"

namespace addon {

int AddressSpace::add(uint64_t start, Window window) {
  const auto next = windows_.lower_bound(start);
  if (next != windows_.end() && next->first - start < window.length) return EEXIST;
  if (next != windows_.begin() && contains(*std::prev(next), start)) return EEXIST;
  auto added = windows_.emplace_hint(next, start, std::move(window));
  if (added != windows_.begin() && join(std::prev(added), added)) added = std::prev(next);
  if (next != windows_.end()) join(added, next);
  return 0;
}

bool AddressSpace::join(Windows::iterator first, Windows::iterator second) {
  Window& into = first->second;
  const Window& rest = second->second;
  const bool goesOn = first->first + into.length == second->first && into.region == rest.region &&
                      into.offset + into.length == rest.offset && into.writable == rest.writable;
  if (!goesOn) return false;
  into.length += rest.length;
  if (last_ == second) last_ = first;
  windows_.erase(second);
  return true;
}

void AddressSpace::remove(uint64_t start, uint64_t length) {
  const uint64_t end = start + length;
  last_ = windows_.end();
  auto window = windows_.lower_bound(start);
  if (window != windows_.begin() && contains(*std::prev(window), start)) window = std::prev(window);
  while (window != windows_.end() && window->first < end) {
    const uint64_t windowStart = window->first;
    Window rest = window->second;
    const uint64_t windowEnd = windowStart + rest.length;
    if (windowStart < start) {
      window->second.length = start - windowStart;
      window++;
    } else {
      window = windows_.erase(window);
    }
    if (windowEnd <= end) continue;
    rest.offset += end - windowStart;
    rest.length = windowEnd - end;
    windows_.emplace_hint(window, end, std::move(rest));
    return;
  }
}

bool AddressSpace::covers(uint64_t address, uint64_t length, Access access) {
  while (length > 0) {
    const Bytes piece = at(address, length, access);
    if (piece.length == 0) return false;
    address += piece.length;
    length -= piece.length;
  }
  return true;
}

namespace {

/** The open space of argument 0, or null with an exception pending. */
AddressSpace* openSpace(const Napi::CallbackInfo& info, Args& args, const char* call) {
  auto* space = args.handle<AddressSpace>(0);
  if (args.failed()) return nullptr;
  if (!space->closed()) return space;
  fail(info.Env(), EBADF, call);
  return nullptr;
}

// makeSpace(): handle
Napi::Value makeSpace(const Napi::CallbackInfo& info) { return makeHandle(info.Env(), new AddressSpace); }

// addWindow(space, address, length, mapping, offset, writable)
Napi::Value addWindow(const Napi::CallbackInfo& info) {
  Args args(info);
  AddressSpace* space = openSpace(info, args, "add");
  if (space == nullptr) return {};
  const uint64_t address = args.integer(1, "guestAddress");
  const uint64_t length = args.integer(2, "lengthBytes");
  auto* mapping = args.handle<RegionHandle>(3);
  const uint64_t offset = args.integer(4, "mappingOffset");
  const bool writable = args.boolean(5, "writable");
  if (args.failed()) return {};

  const Region& region = *mapping->region;
  if (region.data() == nullptr) return fail(info.Env(), EBADF, "add");
  if (length == 0 || length > region.length() || offset > region.length() - length) {
    return fail(info.Env(), EINVAL, "add");
  }
  if (writable && !region.writable()) return fail(info.Env(), EACCES, "add");
  const int failed = space->add(address, {length, mapping->region, offset, writable});
  return failed ? fail(info.Env(), failed, "add") : Napi::Value();
}

// removeRange(space, address, length)
Napi::Value removeRange(const Napi::CallbackInfo& info) {
  Args args(info);
  AddressSpace* space = openSpace(info, args, "remove");
  if (space == nullptr) return {};
  const uint64_t address = args.integer(1, "guestAddress");
  const uint64_t length = args.integer(2, "lengthBytes");
  if (!args.failed()) space->remove(address, length);
  return {};
}

// windowCount(space): number
Napi::Value windowCount(const Napi::CallbackInfo& info) {
  Args args(info);
  const AddressSpace* space = openSpace(info, args, "count");
  if (space == nullptr) return {};
  return Napi::Number::New(info.Env(), static_cast<double>(space->count()));
}

// clearSpace(space)
Napi::Value clearSpace(const Napi::CallbackInfo& info) {
  Args args(info);
  AddressSpace* space = openSpace(info, args, "clear");
  if (space != nullptr) space->clear();
  return {};
}

// closeSpace(space)
Napi::Value closeSpace(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* space = args.handle<AddressSpace>(0);
  if (!args.failed()) space->close();
  return {};
}

// covers(space, address, length, write): boolean
Napi::Value covers(const Napi::CallbackInfo& info) {
  Args args(info);
  AddressSpace* space = openSpace(info, args, "covers");
  if (space == nullptr) return {};
  const uint64_t address = args.integer(1, "guestAddress");
  const uint64_t length = args.integer(2, "lengthBytes");
  const Access access = args.boolean(3, "write") ? Access::write : Access::read;
  if (args.failed()) return {};
  return Napi::Boolean::New(info.Env(), space->covers(address, length, access));
}

// readGuest(space, address, into): boolean
Napi::Value readGuest(const Napi::CallbackInfo& info) {
  Args args(info);
  AddressSpace* space = openSpace(info, args, "read");
  if (space == nullptr) return {};
  uint64_t address = args.integer(1, "guestAddress");
  Bytes into = args.bytes(2, "into");
  if (args.failed()) return {};
  while (into.length > 0) {
    const Bytes piece = space->at(address, into.length, Access::read);
    if (piece.length == 0) return Napi::Boolean::New(info.Env(), false);
    std::memmove(into.data, piece.data, piece.length);
    address += piece.length;
    into = {into.data + piece.length, into.length - piece.length};
  }
  return Napi::Boolean::New(info.Env(), true);
}

// writeGuest(space, address, from): boolean
Napi::Value writeGuest(const Napi::CallbackInfo& info) {
  Args args(info);
  AddressSpace* space = openSpace(info, args, "write");
  if (space == nullptr) return {};
  uint64_t address = args.integer(1, "guestAddress");
  Bytes from = args.bytes(2, "from");
  if (args.failed()) return {};
  if (!space->covers(address, from.length, Access::write)) return Napi::Boolean::New(info.Env(), false);
  while (from.length > 0) {
    const Bytes piece = space->at(address, from.length, Access::write);
    std::memmove(piece.data, from.data, piece.length);
    address += piece.length;
    from = {from.data + piece.length, from.length - piece.length};
  }
  return Napi::Boolean::New(info.Env(), true);
}

}  // namespace

void exposeAddressSpaces(Napi::Object exports) {
  expose<makeSpace>(exports, "makeSpace");
  expose<addWindow>(exports, "addWindow");
  expose<removeRange>(exports, "removeRange");
  expose<windowCount>(exports, "windowCount");
  expose<clearSpace>(exports, "clearSpace");
  expose<closeSpace>(exports, "closeSpace");
  expose<covers>(exports, "covers");
  expose<readGuest>(exports, "readGuest");
  expose<writeGuest>(exports, "writeGuest");
}

}  // namespace addon
