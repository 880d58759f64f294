// Guest addresses to host memory. Windows hold their region by shared ownership and ask it at every access
// whether it is still mapped, so a mapping that was closed while listed reads as unmapped memory. Neighbours in the
// guest that are neighbours in one region, too, are one window.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>

#include "args.h"
#include "mapping.h"

namespace addon {

enum class Access { read, write };

/** Addresses and lengths are at most 2^53, so that no sum of two of them wraps. */
class AddressSpace {
 public:
  static constexpr napi_type_tag tag = {0x5b1fd3790c264e88, 0xa7e3914b6f0d52c4};

  struct Window {
    uint64_t length;
    std::shared_ptr<Region> region;
    uint64_t offset;
    bool writable;
  };

  /** 0, or EEXIST when it overlaps another window. */
  int add(uint64_t start, Window window);
  /** Takes a range out: windows that reach beyond it are cut. */
  void remove(uint64_t start, uint64_t length);
  void clear() {
    windows_.clear();
    last_ = windows_.end();
  }
  size_t count() const { return windows_.size(); }

  void close() {
    clear();
    closed_ = true;
  }
  bool closed() const { return closed_; }

  /** The memory at `address`, as far as one window reaches and no longer than `length`; empty: not mapped. */
  Bytes at(uint64_t address, uint64_t length, Access access) {
    const auto found = find(address);
    if (found == windows_.end()) return {};
    const Window& window = found->second;
    if (access == Access::write && !window.writable) return {};
    uint8_t* data = window.region->data();
    if (data == nullptr) return {};
    const uint64_t into = address - found->first;
    return {data + window.offset + into, std::min(length, window.length - into)};
  }

  bool covers(uint64_t address, uint64_t length, Access access);

 private:
  /** By start. */
  using Windows = std::map<uint64_t, Window>;

  static bool contains(Windows::const_reference window, uint64_t address) {
    return address - window.first < window.second.length;
  }

  /** Where it is, or the end. */
  Windows::iterator find(uint64_t address) {
    if (last_ != windows_.end()) {
      if (contains(*last_, address)) return last_;
      // Who reads on comes to the next one.
      const auto next = std::next(last_);
      if (next != windows_.end() && contains(*next, address)) return last_ = next;
    }
    const auto behind = windows_.upper_bound(address);
    if (behind == windows_.begin()) return windows_.end();
    const auto found = std::prev(behind);
    return contains(*found, address) ? last_ = found : windows_.end();
  }

  /** Makes `second` a part of `first` where one goes on where the other ends. */
  bool join(Windows::iterator first, Windows::iterator second);

  Windows windows_;
  /** The window found last, or the end. */
  Windows::iterator last_ = windows_.end();
  bool closed_ = false;
};

}  // namespace addon
