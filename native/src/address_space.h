// Guest addresses to host memory. Windows hold their region by shared ownership and ask it at every access
// whether it is still mapped, so a mapping that was closed while listed reads as unmapped memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "args.h"
#include "mapping.h"

namespace addon {

enum class Access { read, write };

/** Addresses and lengths are at most 2^53, so that no sum of two of them wraps. */
class AddressSpace {
 public:
  static constexpr napi_type_tag tag = {0x5b1fd3790c264e88, 0xa7e3914b6f0d52c4};

  struct Window {
    uint64_t start;
    uint64_t length;
    std::shared_ptr<Region> region;
    uint64_t offset;
    bool writable;

    bool contains(uint64_t address) const { return address - start < length; }
  };

  /** 0, or EEXIST when it overlaps another window. */
  int add(Window window);
  /** 0, or ENOENT when no window starts there. */
  int remove(uint64_t start);
  void clear() { windows_.clear(); }

  void close() {
    clear();
    closed_ = true;
  }
  bool closed() const { return closed_; }

  /** The memory at `address`, as far as one window reaches and no longer than `length`; empty: not mapped. */
  Bytes at(uint64_t address, uint64_t length, Access access) {
    const Window* window = find(address);
    if (window == nullptr || (access == Access::write && !window->writable)) return {};
    uint8_t* data = window->region->data();
    if (data == nullptr) return {};
    const uint64_t into = address - window->start;
    return {data + window->offset + into, std::min(length, window->length - into)};
  }

  bool covers(uint64_t address, uint64_t length, Access access);

 private:
  const Window* find(uint64_t address) {
    if (last_ < windows_.size() && windows_[last_].contains(address)) return &windows_[last_];
    const size_t index = indexAfter(address) - 1;
    if (index >= windows_.size() || !windows_[index].contains(address)) return nullptr;
    last_ = index;
    return &windows_[index];
  }

  /** Of the first window that starts behind the address. */
  size_t indexAfter(uint64_t address) const {
    const auto startsBehind = [](uint64_t value, const Window& window) { return value < window.start; };
    return std::upper_bound(windows_.begin(), windows_.end(), address, startsBehind) - windows_.begin();
  }

  std::vector<Window> windows_;  // sorted by start
  size_t last_ = 0;
  bool closed_ = false;
};

}  // namespace addon
