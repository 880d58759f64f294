#include "mapping.h"

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
  const uint64_t pageSize = pageSizeOf(options.fd);
  if (pageSize == 0) return "fstatfs";
  const uint64_t before = options.offset % pageSize;
  const uint64_t length = roundUp(before + options.length, pageSize);
  if (options.offset % offsetAlignment != 0 || tooShort(options.fd, options.offset + options.length)) {
    errno = EINVAL;
    return "mmap";
  }

  const int protection = PROT_READ | (options.writable ? PROT_WRITE : 0);
  void* pages = mmap(nullptr, length, protection, MAP_SHARED, options.fd,
                     static_cast<off_t>(options.offset - before));
  if (pages == MAP_FAILED) return "mmap";

  registry_ = std::move(registry);
  registry_->regions.insert(this);
  pages_ = pages;
  pagesLength_ = length;
  data_ = static_cast<uint8_t*>(pages) + before;
  length_ = options.length;
  writable_ = options.writable;
  return protect(options, protection);
}

const char* Region::protect(const Options& options, int protection) {
  const char* failed = nullptr;
  if (!options.dump && madvise(pages_, pagesLength_, MADV_DONTDUMP) != 0) failed = "madvise";
  if (failed == nullptr && options.guard) {
    guard_ = sigbus::guard(pages_, pagesLength_, protection);
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
  expose<chunk>(exports, "chunk");
  expose<unmap>(exports, "unmap");
  expose<sigbusCounter>(exports, "sigbusCounter");
  expose<pageBytes>(exports, "pageBytes");
}

}  // namespace addon
