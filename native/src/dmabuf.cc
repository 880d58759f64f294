// dma-bufs over pages of memfds (udmabuf), and the brackets around access to a dma-buf by the CPU.
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>

#include "args.h"
#include "exports.h"
#include "os.h"

namespace addon {
namespace {

/** Reads [fd, offset, length] after [fd, offset, length] from argument 1. */
std::vector<udmabuf_create_item> itemsOf(const Napi::CallbackInfo& info, Args& args) {
  std::vector<udmabuf_create_item> items;
  const auto list = info[1].As<Napi::Array>();
  if (!list.IsArray() || list.Length() % 3 != 0) {
    args.mistake<Napi::TypeError>("ranges", "must be an array of three numbers per range");
    return items;
  }
  for (uint32_t i = 0; i < list.Length() && !args.failed(); i += 3) {
    const Napi::Value fd = list[i], offset = list[i + 1], length = list[i + 2];
    udmabuf_create_item item = {};
    item.memfd = static_cast<uint32_t>(args.integerOf(fd, "fd", INT_MAX));
    item.offset = args.integerOf(offset, "offset", maxSafeInteger);
    item.size = args.integerOf(length, "lengthBytes", maxSafeInteger);
    items.push_back(item);
  }
  return items;
}

// createUdmabuf(device, [fd, offset, length, ...]): fd
Napi::Value createUdmabuf(const Napi::CallbackInfo& info) {
  Args args(info);
  const int device = args.fd(0, "device");
  const std::vector<udmabuf_create_item> items = itemsOf(info, args);
  if (args.failed()) return {};

  const udmabuf_create_list header = {
      .flags = UDMABUF_FLAGS_CLOEXEC,
      .count = static_cast<uint32_t>(items.size()),
  };
  const size_t itemBytes = items.size() * sizeof(udmabuf_create_item);
  std::vector<uint8_t> request(sizeof(header) + itemBytes);
  std::memcpy(request.data(), &header, sizeof(header));
  if (itemBytes > 0) std::memcpy(request.data() + sizeof(header), items.data(), itemBytes);
  const int fd = retry([&] { return ioctl(device, UDMABUF_CREATE_LIST, request.data()); });
  if (fd < 0) return fail(info.Env(), errno, "UDMABUF_CREATE_LIST");
  return Napi::Number::New(info.Env(), fd);
}

// syncDmaBuf(fd, end, access)
Napi::Value syncDmaBuf(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  const bool end = args.boolean(1, "end");
  const uint64_t access = args.integer(2, "access", DMA_BUF_SYNC_RW);
  if (args.failed()) return {};
  const dma_buf_sync sync = {.flags = access | (end ? DMA_BUF_SYNC_END : DMA_BUF_SYNC_START)};
  int result;
  do {
    result = ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
  } while (result < 0 && (errno == EINTR || errno == EAGAIN));
  if (result < 0) return fail(info.Env(), errno, "DMA_BUF_IOCTL_SYNC");
  return {};
}

}  // namespace

void exposeDmaBufs(Napi::Object exports) {
  expose<createUdmabuf>(exports, "createUdmabuf");
  expose<syncDmaBuf>(exports, "syncDmaBuf");
}

}  // namespace addon
