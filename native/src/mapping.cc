#include "mapping.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "args.h"
#include "exports.h"
#include "sigbus.h"

namespace addon {
namespace {

static_assert(sizeof(size_t) == 8, "lengths and offsets are 64 bits wide throughout");

/** Offsets are those of guest pages, also where pages of the host are larger. */
constexpr uint64_t offsetAlignment = 4096;

/** What a reserved region has where no part of the file is: nothing that could be written, or counts as memory. */
constexpr int holeFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
constexpr uint64_t hugePageSize = 1 << 21;
/** No sum of two wraps. More than a process has addresses. */
constexpr uint64_t maxReservation = uint64_t{1} << 48;

uint64_t roundUp(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }

/** 0 with errno when the descriptor is none. hugetlbfs maps and unmaps whole huge pages only. */
uint64_t pageSizeOf(int fd) {
  struct statfs filesystem;
  if (fstatfs(fd, &filesystem) != 0) return 0;
  if (filesystem.f_type == HUGETLBFS_MAGIC) return static_cast<uint64_t>(filesystem.f_bsize);
  return static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

/** A mapping may reach beyond the end of its file; the access there is what fails. Devices have no size. */
bool tooShort(int fd, uint64_t end) {
  struct stat file;
  return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && end > static_cast<uint64_t>(file.st_size);
}

}  // namespace

const char* Region::map(const Options& options, std::shared_ptr<Registry> registry) {
  pageSize_ = pageSizeOf(options.fd);
  if (pageSize_ == 0) return "fstatfs";
  const uint64_t before = options.offset % pageSize_;
  const uint64_t length = roundUp(before + options.length, pageSize_);
  if (options.offset % offsetAlignment != 0 || tooShort(options.fd, options.offset + options.length)) {
    errno = EINVAL;
    return "mmap";
  }

  writable_ = options.writable;
  void* pages = mmap(nullptr, length, protection(), MAP_SHARED, options.fd,
                     static_cast<off_t>(options.offset - before));
  if (pages == MAP_FAILED) return "mmap";

  registry_ = std::move(registry);
  registry_->regions.insert(this);
  pages_ = pages;
  pagesLength_ = length;
  data_ = static_cast<uint8_t*>(pages) + before;
  length_ = options.length;
  return protect(options);
}

const char* Region::reserve(const Options& options, std::shared_ptr<Registry> registry) {
  pageSize_ = pageSizeOf(options.fd);
  if (pageSize_ == 0) return "fstatfs";
  const uint64_t length = roundUp(options.length, pageSize_);
  // So that the kernel can use its huge pages where the file has them.
  const uint64_t alignment = std::max(pageSize_, hugePageSize);
  void* taken = mmap(nullptr, length + alignment, PROT_READ, holeFlags, -1, 0);
  if (taken == MAP_FAILED) return "mmap";
  const auto first = reinterpret_cast<uintptr_t>(taken);
  const uintptr_t aligned = roundUp(first, alignment);
  if (aligned > first) munmap(taken, aligned - first);
  if (aligned < first + alignment) munmap(reinterpret_cast<void*>(aligned + length), first + alignment - aligned);

  registry_ = std::move(registry);
  registry_->regions.insert(this);
  pages_ = reinterpret_cast<void*>(aligned);
  pagesLength_ = length;
  data_ = static_cast<uint8_t*>(pages_);
  length_ = options.length;
  writable_ = options.writable;
  reserved_ = true;
  // No huge page is set aside by fill(): one that cannot be had is a fault, also where the file cannot shrink.
  Options guarded = options;
  guarded.guard = options.guard || pageSize_ > static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return protect(guarded);
}

const char* Region::fill(int fd, uint64_t offset, uint64_t length) { return place(fd, offset, length); }

const char* Region::drop(uint64_t offset, uint64_t length) { return place(-1, offset, length); }

/** Puts the file's pages, or with no file zeros, at their place in a reserved region. */
const char* Region::place(int fd, uint64_t offset, uint64_t length) {
  if (!reserved_ || offset % pageSize_ != 0 || offset >= pagesLength_ || length > pagesLength_ - offset) {
    errno = EINVAL;
    return "mmap";
  }
  uint8_t* at = static_cast<uint8_t*>(pages_) + offset;
  length = roundUp(length, pageSize_);
  // Pages that the client does not announce may be in between: no huge page is set aside for those.
  constexpr int fileFlags = MAP_SHARED | MAP_NORESERVE;
  const void* placed = fd < 0 ? mmap(at, length, PROT_READ, holeFlags | MAP_FIXED, -1, 0)
                              : mmap(at, length, protection(), fileFlags | MAP_FIXED, fd, static_cast<off_t>(offset));
  if (placed == MAP_FAILED) return "mmap";
  return madvise(at, length, MADV_DONTDUMP) != 0 ? "madvise" : nullptr;
}

int Region::protection() const { return PROT_READ | (writable_ ? PROT_WRITE : 0); }

const char* Region::protect(const Options& options) {
  const char* failed = nullptr;
  if (!options.dump && madvise(pages_, pagesLength_, MADV_DONTDUMP) != 0) failed = "madvise";
  if (failed == nullptr && options.guard) {
    guard_ = sigbus::guard(pages_, pagesLength_, protection());
    if (guard_ < 0) failed = "sigaction";
  }
  if (failed != nullptr) {
    const int kept = errno;
    unmap();
    errno = kept;
  }
  return failed;
}

void Region::unmap() {
  if (pages_ == nullptr) return;
  forget();
  munmap(pages_, pagesLength_);
  pages_ = nullptr;
}

void Region::blank() {
  if (pages_ == nullptr) return;
  forget();
  constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  // A view that went on seeing the client's memory would break the promise of close(), unnoticed.
  if (mmap(pages_, pagesLength_, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) std::abort();
}

/** The guard goes first: once unmapped, the addresses may belong to anyone. */
void Region::forget() {
  if (guard_ >= 0) sigbus::release(std::exchange(guard_, -1));
  data_ = nullptr;
  registry_->regions.erase(this);
}

namespace {

// map(fd, offset, length, writable, guard, dump): handle
Napi::Value map(const Napi::CallbackInfo& info) {
  Args args(info);
  const Region::Options options = {
      .fd = args.fd(0),
      .offset = args.integer(1, "offset"),
      .length = args.integer(2, "lengthBytes"),
      .writable = args.boolean(3, "writable"),
      .guard = args.boolean(4, "guard"),
      .dump = args.boolean(5, "dump"),
  };
  if (args.failed()) return {};
  auto handle = std::make_unique<RegionHandle>();
  const char* failed = handle->region->map(options, registryOf(info.Env()));
  if (failed != nullptr) return fail(info.Env(), errno, failed);
  return makeHandle(info.Env(), handle.release());
}

// reserve(fd, length, writable, guard): handle
Napi::Value reserve(const Napi::CallbackInfo& info) {
  Args args(info);
  const Region::Options options = {
      .fd = args.fd(0),
      .offset = 0,
      .length = args.integer(1, "lengthBytes", maxReservation),
      .writable = args.boolean(2, "writable"),
      .guard = args.boolean(3, "guard"),
      .dump = false,
  };
  if (args.failed()) return {};
  auto handle = std::make_unique<RegionHandle>();
  const char* failed = handle->region->reserve(options, registryOf(info.Env()));
  if (failed != nullptr) return fail(info.Env(), errno, failed);
  return makeHandle(info.Env(), handle.release());
}

/** The region of argument 0 while it is mapped, or null with an exception pending. */
Region* openRegion(const Napi::CallbackInfo& info, Args& args, const char* call) {
  auto* handle = args.handle<RegionHandle>(0);
  if (args.failed()) return nullptr;
  if (handle->region->data() != nullptr) return handle->region.get();
  fail(info.Env(), EBADF, call);
  return nullptr;
}

// fillReserved(handle, fd, offset, length)
Napi::Value fillReserved(const Napi::CallbackInfo& info) {
  Args args(info);
  Region* region = openRegion(info, args, "fill");
  if (region == nullptr) return {};
  const int fd = args.fd(1);
  const uint64_t offset = args.integer(2, "offset");
  const uint64_t length = args.integer(3, "lengthBytes");
  if (args.failed()) return {};
  const char* failed = region->fill(fd, offset, length);
  return failed != nullptr ? fail(info.Env(), errno, failed) : Napi::Value();
}

// dropReserved(handle, offset, length)
Napi::Value dropReserved(const Napi::CallbackInfo& info) {
  Args args(info);
  Region* region = openRegion(info, args, "drop");
  if (region == nullptr) return {};
  const uint64_t offset = args.integer(1, "offset");
  const uint64_t length = args.integer(2, "lengthBytes");
  if (args.failed()) return {};
  const char* failed = region->drop(offset, length);
  return failed != nullptr ? fail(info.Env(), errno, failed) : Napi::Value();
}

// filePageBytes(handle): number
Napi::Value filePageBytes(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto* handle = args.handle<RegionHandle>(0);
  if (args.failed()) return {};
  return Napi::Number::New(info.Env(), static_cast<double>(handle->region->pageSize()));
}

// chunk(handle, offset, length): ArrayBuffer
Napi::Value chunk(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.handle<RegionHandle>(0);
  const uint64_t offset = args.integer(1, "offset");
  const uint64_t length = args.integer(2, "lengthBytes");
  if (args.failed()) return {};
  Region& region = *handle->region;
  if (region.data() == nullptr) return fail(info.Env(), EBADF, "chunk");
  if (offset > region.length() || length > region.length() - offset) {
    args.mistake<Napi::RangeError>("chunk", "is not inside the mapping");
    return {};
  }
  auto* owner = new std::shared_ptr<Region>(handle->region);
  const auto release = [](Napi::Env, void*, std::shared_ptr<Region>* dead) { delete dead; };
  return Napi::ArrayBuffer::New(info.Env(), region.data() + offset, length, release, owner);
}

/** False when JavaScript has moved the memory to an ArrayBuffer that we do not know. */
bool detach(Napi::Env env, napi_value chunk) {
  bool moved = false;
  if (napi_is_detached_arraybuffer(env, chunk, &moved) != napi_ok) return false;
  return !moved && napi_detach_arraybuffer(env, chunk) == napi_ok;
}

// unmap(handle, chunks): every ArrayBuffer made from the mapping ends with it
Napi::Value unmap(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* handle = args.handle<RegionHandle>(0);
  const auto chunks = info[1].As<Napi::Array>();
  if (!chunks.IsArray()) args.mistake<Napi::TypeError>("chunks", "must be an array");
  if (args.failed()) return {};
  bool unreachable = false;
  for (uint32_t i = 0; i < chunks.Length(); i++) {
    const Napi::Value chunk = chunks[i];
    if (chunk.IsArrayBuffer() && !detach(info.Env(), chunk)) unreachable = true;
  }
  unreachable ? handle->region->blank() : handle->region->unmap();
  return {};
}

// detachChunk(chunk): an ArrayBuffer made from a mapping ends before it
Napi::Value detachChunk(const Napi::CallbackInfo& info) {
  if (info[0].IsArrayBuffer()) detach(info.Env(), info[0]);
  return {};
}

// sigbusCounter(): ArrayBuffer over the counter of repairs
Napi::Value sigbusCounter(const Napi::CallbackInfo& info) {
  static_assert(sizeof(sigbus::repairs()) == sizeof(uint32_t));
  return Napi::ArrayBuffer::New(info.Env(), &sigbus::repairs(), sizeof(uint32_t));
}

// pageBytes(): number
Napi::Value pageBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(sysconf(_SC_PAGESIZE)));
}

}  // namespace

void exposeMappings(Napi::Object exports) {
  expose<map>(exports, "map");
  expose<reserve>(exports, "reserve");
  expose<fillReserved>(exports, "fillReserved");
  expose<dropReserved>(exports, "dropReserved");
  expose<filePageBytes>(exports, "filePageBytes");
  expose<chunk>(exports, "chunk");
  expose<detachChunk>(exports, "detachChunk");
  expose<unmap>(exports, "unmap");
  expose<sigbusCounter>(exports, "sigbusCounter");
  expose<pageBytes>(exports, "pageBytes");
}

}  // namespace addon
