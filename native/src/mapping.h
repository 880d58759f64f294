// A range of a file in memory, shared by everything that may still look at it, with an explicit end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <napi.h>

#include "registry.h"

namespace addon {

/**
 * Owners are the JavaScript wrapper, the finalizers of its ArrayBuffers and the address spaces it is in: the
 * last one unmaps. unmap() does so at once, for all of them. Used by one thread, that of its environment.
 */
class Region {
 public:
  struct Options {
    int fd;
    uint64_t offset;
    uint64_t length;
    bool writable;
    bool guard;
    bool dump;
  };

  Region() = default;
  Region(const Region&) = delete;
  ~Region() { unmap(); }

  /** Returns null on success, else the name of the call that failed, with errno. */
  const char* map(const Options& options, std::shared_ptr<Registry> registry);

  /** Takes addresses for all of a file, and maps none of it: zeros that can only be read. Returns as map() does. */
  const char* reserve(const Options& options, std::shared_ptr<Registry> registry);

  /** Whole pages of the file in their place, of a reserved region. Both return as map() does. */
  const char* fill(int fd, uint64_t offset, uint64_t length);
  /** The zeros again. */
  const char* drop(uint64_t offset, uint64_t length);

  void unmap();

  /** For the case that views of the memory are out of reach: they see zeros until the last owner is gone. */
  void blank();

  /** Null once unmapped. */
  uint8_t* data() const { return data_; }
  size_t length() const { return length_; }
  bool writable() const { return writable_; }
  /** Of the file: that of its huge pages where it has them. */
  uint64_t pageSize() const { return pageSize_; }

 private:
  int protection() const;
  const char* protect(const Options& options);
  const char* place(int fd, uint64_t offset, uint64_t length);
  void forget();

  std::shared_ptr<Registry> registry_;
  uint8_t* data_ = nullptr;
  size_t length_ = 0;
  bool writable_ = false;
  bool reserved_ = false;
  uint64_t pageSize_ = 0;
  int guard_ = -1;
  /** Whole pages around the data; huge pages where the file has them. */
  void* pages_ = nullptr;
  size_t pagesLength_ = 0;
};

/** What a Mapping of index.ts holds. */
struct RegionHandle {
  static constexpr napi_type_tag tag = {0x8e4c1a0f53d94b7a, 0x9f2206d1c8b3e571};
  std::shared_ptr<Region> region = std::make_shared<Region>();
};

}  // namespace addon
