// The loops over pixels: between guest memory and images of our own, between channel orders, and the search
// for what changed. All copies are memmove: the caller may hand us overlapping views of one memory.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>

#if defined(__x86_64__)
#include <tmmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "address_space.h"
#include "args.h"
#include "exports.h"
#include "rows.h"

namespace addon {
namespace {

// ---- entry lists ----

enum class Outcome { copied, endOfList, notMapped, brokenList };

/** The byte stream that the entries of a guest's memory list form; `ends` are cumulative. */
class EntryList {
 public:
  EntryList(Array<const double> addresses, Array<const double> ends) : addresses_(addresses), ends_(ends) {}

  /** Moves to the entry that holds this byte of the stream. */
  Outcome seek(uint64_t position) {
    if (position >= start_ && position < end_) return Outcome::copied;
    const double* first = ends_.data;
    const double* last = first + ends_.length;
    return enter(static_cast<size_t>(std::upper_bound(first, last, static_cast<double>(position)) - first), position);
  }

  /** To the entry behind the present one, past empty ones. */
  Outcome next() { return enter(index_ + 1, end_); }

  /** Guest address of a byte of the present entry, or more than any address when the list's number is none. */
  uint64_t addressOf(uint64_t position) const {
    const double address = addresses_.data[index_];
    if (!isOffset(address)) return UINT64_MAX;
    return static_cast<uint64_t>(static_cast<int64_t>(address)) + (position - start_);
  }

  uint64_t end() const { return end_; }

  /** Guest address of the entry behind the present one; more than any address when there is none. */
  uint64_t nextAddress() const {
    if (index_ + 1 >= addresses_.length) return UINT64_MAX;
    const double address = addresses_.data[index_ + 1];
    return isOffset(address) ? static_cast<uint64_t>(static_cast<int64_t>(address)) : UINT64_MAX;
  }

 private:
  static bool isOffset(double value) { return value >= 0 && value <= static_cast<double>(maxSafeInteger); }

  /** The numbers come from JavaScript and are believed one by one, as they are used. */
  Outcome enter(size_t index, uint64_t position) {
    for (; index < ends_.length; index++) {
      const double start = index > 0 ? ends_.data[index - 1] : 0;
      const double end = ends_.data[index];
      if (!isOffset(start) || !isOffset(end) || end < start) return Outcome::brokenList;
      index_ = index;
      start_ = static_cast<uint64_t>(static_cast<int64_t>(start));
      end_ = static_cast<uint64_t>(static_cast<int64_t>(end));
      if (position < start_) return Outcome::brokenList;
      if (position < end_) return Outcome::copied;
    }
    return Outcome::endOfList;
  }

  Array<const double> addresses_;
  Array<const double> ends_;
  size_t index_ = 0;
  uint64_t start_ = 0;
  uint64_t end_ = 0;
};

constexpr size_t cacheLineBytes = 64;
constexpr size_t prefetchBytes = 8 * cacheLineBytes;

void copy(uint8_t* linear, const Bytes& guest, Access access) {
  if (access == Access::read) {
    std::memmove(linear, guest.data, guest.length);
  } else {
    std::memmove(guest.data, linear, guest.length);
  }
}

/** Copies one row; `copied` grows by what was done, also when the row could not be finished. */
Outcome copyRow(AddressSpace& space, EntryList& entries, uint64_t position, uint8_t* linear, uint64_t length,
                Access access, uint64_t& copied) {
  Outcome outcome = entries.seek(position);
  while (outcome == Outcome::copied) {
    const uint64_t inEntry = std::min(length, entries.end() - position);
    const Bytes guest = space.at(entries.addressOf(position), inEntry, access);
    if (guest.length == 0) return Outcome::notMapped;
    // Entries lie anywhere: the processor cannot guess where the next one begins, and its page is not in the TLB.
    const Bytes ahead = space.at(entries.nextAddress(), prefetchBytes, access);
    for (size_t at = 0; at < ahead.length; at += cacheLineBytes) __builtin_prefetch(ahead.data + at);
    copy(linear, guest, access);
    copied += guest.length;
    linear += guest.length;
    position += guest.length;
    length -= guest.length;
    if (length == 0) return Outcome::copied;
    if (position == entries.end()) outcome = entries.next();
  }
  return outcome;
}

// gather and scatter(space, addresses, ends, listOffset, listStride, linear, offset, stride, rowBytes, rows):
// bytes copied, or -1 when guest memory is missing
template <Access access>
Napi::Value transfer(const Napi::CallbackInfo& info) {
  Args args(info);
  auto* space = args.handle<AddressSpace>(0);
  const Array<const double> addresses = args.doubles(1, "entries.addresses");
  const Array<const double> ends = args.doubles(2, "entries.ends");
  Span list = readSpan(args, 3, "offset in the list", "stride in the list");
  const Bytes linear = args.bytes(5, "image");
  Span image = readSpan(args, 6, "offset in the image", "stride in the image");
  uint64_t rowBytes = args.integer(8, "rowBytes");
  uint64_t rows = args.integer(9, "rows");
  requireRows(args, "image", linear, image, rowBytes, rows);
  if (!args.failed() && addresses.length != ends.length) {
    args.mistake<Napi::RangeError>("entries", "must have as many addresses as ends");
  }
  if (args.failed()) return {};
  if (space->closed()) return fail(info.Env(), EBADF, access == Access::read ? "gather" : "scatter");
  if (rowBytes == 0) rows = 0;
  if (rows > 0 && list.stride == rowBytes && image.stride == rowBytes) {
    rowBytes *= rows;
    rows = 1;
  }

  EntryList entries(addresses, ends);
  uint64_t copied = 0;
  for (uint64_t row = 0; row < rows; row++) {
    const uint64_t before = copied;
    uint8_t* at = linear.data + image.offset + row * image.stride;
    const Outcome outcome = copyRow(*space, entries, list.offset, at, rowBytes, access, copied);
    if (outcome == Outcome::notMapped) return Napi::Number::New(info.Env(), -1);
    if (outcome == Outcome::brokenList) {
      args.mistake<Napi::RangeError>("entries.ends", "must be integers that do not descend");
      return {};
    }
    if (outcome == Outcome::endOfList && copied == before) break;
    list.offset += list.stride;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(copied));
}

// ---- channel orders ----

/** For each byte of a destination pixel: which byte of the source pixel, or the value 255. */
struct Picks {
  uint8_t from[4];
  bool full[4];
};

constexpr size_t pixelBytes = 4;
constexpr size_t vectorBytes = 16;

/** Pixels that fill no vector. */
void convertTail(const uint8_t* from, uint8_t* to, size_t bytes, const Picks& picks) {
  for (size_t at = 0; at < bytes; at += pixelBytes) {
    uint8_t pixel[pixelBytes];
    std::memcpy(pixel, from + at, pixelBytes);
    for (size_t i = 0; i < pixelBytes; i++) to[at + i] = picks.full[i] ? 0xff : pixel[picks.from[i]];
  }
}

/** What a byte shuffle needs: the source of each byte of a vector, and what to set on top. */
struct Shuffle {
  alignas(vectorBytes) uint8_t index[vectorBytes];
  alignas(vectorBytes) uint8_t fill[vectorBytes];

  explicit Shuffle(const Picks& picks) {
    for (size_t i = 0; i < vectorBytes; i++) {
      const size_t channel = i % pixelBytes;
      index[i] = static_cast<uint8_t>(i - channel + picks.from[channel]);
      fill[i] = picks.full[channel] ? 0xff : 0;
    }
  }
};

#if defined(__x86_64__)

// Every x86-64 processor since 2006 has SSSE3, but compilers may not assume it.
__attribute__((target("ssse3"))) size_t convertVectors(const uint8_t* from, uint8_t* to, size_t bytes,
                                                       const Shuffle& shuffle) {
  const __m128i index = _mm_load_si128(reinterpret_cast<const __m128i*>(shuffle.index));
  const __m128i fill = _mm_load_si128(reinterpret_cast<const __m128i*>(shuffle.fill));
  size_t at = 0;
  for (; at + vectorBytes <= bytes; at += vectorBytes) {
    const __m128i pixels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at));
    const __m128i converted = _mm_or_si128(_mm_shuffle_epi8(pixels, index), fill);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at), converted);
  }
  return at;
}

bool hasVectors() { return __builtin_cpu_supports("ssse3"); }

#elif defined(__aarch64__)

size_t convertVectors(const uint8_t* from, uint8_t* to, size_t bytes, const Shuffle& shuffle) {
  const uint8x16_t index = vld1q_u8(shuffle.index);
  const uint8x16_t fill = vld1q_u8(shuffle.fill);
  size_t at = 0;
  for (; at + vectorBytes <= bytes; at += vectorBytes) {
    vst1q_u8(to + at, vorrq_u8(vqtbl1q_u8(vld1q_u8(from + at), index), fill));
  }
  return at;
}

bool hasVectors() { return true; }

#else

size_t convertVectors(const uint8_t*, uint8_t*, size_t, const Shuffle&) { return 0; }
bool hasVectors() { return false; }

#endif

// convertPixels(from, offset, stride, to, offset, stride, picks, width, height). `picks` has four bits for each
// byte of a destination pixel: the byte of the source pixel, or 4 for the value 255.
Napi::Value convertPixels(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes from = args.bytes(0, "from");
  const Span fromSpan = readSpan(args, 1, "fromSpan.offset", "fromSpan.strideBytes");
  const Bytes to = args.bytes(3, "to");
  const Span toSpan = readSpan(args, 4, "toSpan.offset", "toSpan.strideBytes");
  const uint64_t packed = args.integer(6, "picks", 0xffff);
  const uint64_t rowBytes = args.integer(7, "width", INT_MAX) * pixelBytes;
  const uint64_t rows = args.integer(8, "height", INT_MAX);
  requireRows(args, "from", from, fromSpan, rowBytes, rows);
  requireRows(args, "to", to, toSpan, rowBytes, rows);
  if (args.failed() || rowBytes == 0) return {};

  Picks picks;
  for (size_t i = 0; i < pixelBytes; i++) {
    const uint64_t pick = packed >> (4 * i);
    picks.from[i] = pick & 3;
    picks.full[i] = pick & 4;
  }
  const Shuffle shuffle(picks);
  const bool vectors = hasVectors();
  for (uint64_t row = 0; row < rows; row++) {
    const uint8_t* fromRow = from.data + fromSpan.offset + row * fromSpan.stride;
    uint8_t* toRow = to.data + toSpan.offset + row * toSpan.stride;
    const size_t done = vectors ? convertVectors(fromRow, toRow, rowBytes, shuffle) : 0;
    convertTail(fromRow + done, toRow + done, rowBytes - done, picks);
  }
  return {};
}

// ---- damage ----

// diffTiles(current, offset, stride, previous, offset, stride, rowBytes, rows, tileWidthBytes, tileRows, changed):
// number of changed tiles. Goes row by row, so that both images are read once and in order; a tile that is known
// to differ is copied without a look.
Napi::Value diffTiles(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes current = args.bytes(0, "current");
  const Span currentSpan = readSpan(args, 1, "currentSpan.offset", "currentSpan.strideBytes");
  const Bytes previous = args.bytes(3, "previous");
  const Span previousSpan = readSpan(args, 4, "previousSpan.offset", "previousSpan.strideBytes");
  const uint64_t rowBytes = args.integer(6, "rowBytes");
  const uint64_t rows = args.integer(7, "rows");
  const uint64_t tileBytes = args.integer(8, "tile.widthBytes");
  const uint64_t tileRows = args.integer(9, "tile.rows");
  const Bytes changed = args.bytes(10, "changed");
  requireRows(args, "current", current, currentSpan, rowBytes, rows);
  requireRows(args, "previous", previous, previousSpan, rowBytes, rows);
  if (!args.failed() && (tileBytes == 0 || tileRows == 0)) {
    args.mistake<Napi::RangeError>("tile", "must not be empty");
  }
  if (args.failed()) return {};
  if (rowBytes == 0 || rows == 0) return Napi::Number::New(info.Env(), 0);

  const uint64_t columns = (rowBytes + tileBytes - 1) / tileBytes;
  const uint64_t bands = (rows + tileRows - 1) / tileRows;
  if (columns > changed.length / bands) {
    args.mistake<Napi::RangeError>("changed", "has no room for every tile");
    return {};
  }
  std::memset(changed.data, 0, columns * bands);

  for (uint64_t row = 0; row < rows; row++) {
    const uint8_t* now = current.data + currentSpan.offset + row * currentSpan.stride;
    uint8_t* before = previous.data + previousSpan.offset + row * previousSpan.stride;
    uint8_t* band = changed.data + row / tileRows * columns;
    for (uint64_t column = 0; column < columns; column++) {
      const uint64_t at = column * tileBytes;
      const uint64_t length = std::min(tileBytes, rowBytes - at);
      if (!band[column] && std::memcmp(now + at, before + at, length) == 0) continue;
      band[column] = 1;
      std::memmove(before + at, now + at, length);
    }
  }
  const auto count = std::count(changed.data, changed.data + columns * bands, uint8_t{1});
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

/**
 * A row's content as a number; different rows have the same one too rarely to matter for a guess. Every fourth word goes
 * into the same sum: multiplications that do not wait for each other.
 */
uint64_t hashRow(const uint8_t* row, size_t length) {
  constexpr uint64_t prime = 0x9e3779b97f4a7c15;
  const auto mix = [](uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * prime;
    return hash ^ (hash >> 32);
  };
  uint64_t sums[] = {1, 2, 3, 4};
  uint64_t words[std::size(sums)];
  size_t at = 0;
  for (; at + sizeof words <= length; at += sizeof words) {
    std::memcpy(words, row + at, sizeof words);
    for (size_t i = 0; i < std::size(sums); i++) sums[i] = mix(sums[i], words[i]);
  }
  uint64_t hash = length;
  for (const uint64_t sum : sums) hash = mix(hash, sum);
  for (; at < length; at++) hash = mix(hash, row[at]);
  return hash ^ (hash >> 29);
}

// findScroll(current, offset, stride, previous, offset, stride, rowBytes, rows, found): whether rows of `current` are
// rows of `previous` that moved up or down. Looks only at the columns in which the images differ; `found` gets the first
// column and how many, the first row and how many, and how far down they came. Rows that there are once in both images
// say how far; then all rows are compared, byte by byte.
Napi::Value findScroll(const Napi::CallbackInfo& info) {
  Args args(info);
  const Bytes current = args.bytes(0, "current");
  const Span currentSpan = readSpan(args, 1, "currentSpan.offset", "currentSpan.strideBytes");
  const Bytes previous = args.bytes(3, "previous");
  const Span previousSpan = readSpan(args, 4, "previousSpan.offset", "previousSpan.strideBytes");
  uint64_t rowBytes = args.integer(6, "rowBytes", INT_MAX);
  const uint64_t rows = args.integer(7, "rows", INT_MAX);
  const Array<int32_t> found = args.int32s(8, "found");
  requireRows(args, "current", current, currentSpan, rowBytes, rows);
  requireRows(args, "previous", previous, previousSpan, rowBytes, rows);
  if (!args.failed() && found.length < 5) args.mistake<Napi::RangeError>("found", "has no room for five numbers");
  if (args.failed()) return {};

  uint64_t left = rowBytes, right = 0;
  const auto now = [&](uint64_t row) { return current.data + currentSpan.offset + row * currentSpan.stride + left; };
  const auto before = [&](uint64_t row) { return previous.data + previousSpan.offset + row * previousSpan.stride + left; };
  for (uint64_t row = 0; row < rows; row++) {
    const uint8_t* a = current.data + currentSpan.offset + row * currentSpan.stride;
    const uint8_t* b = previous.data + previousSpan.offset + row * previousSpan.stride;
    left = static_cast<uint64_t>(std::mismatch(a, a + left, b).first - a);
    uint64_t end = rowBytes;
    while (end > right && a[end - 1] == b[end - 1]) end--;
    right = std::max(right, end);
  }
  if (left >= right) return Napi::Boolean::New(info.Env(), false);
  left -= left % pixelBytes;
  right += (pixelBytes - right % pixelBytes) % pixelBytes;
  rowBytes = std::min(right, rowBytes) - left;

  constexpr int64_t several = -1;
  std::unordered_map<uint64_t, int64_t> rowsBefore;
  for (uint64_t row = 0; row < rows; row++) {
    const auto [entry, isNew] = rowsBefore.try_emplace(hashRow(before(row), rowBytes), static_cast<int64_t>(row));
    if (!isNew) entry->second = several;
  }
  std::unordered_map<int64_t, uint64_t> votes;
  for (uint64_t row = 0; row < rows; row++) {
    const auto entry = rowsBefore.find(hashRow(now(row), rowBytes));
    if (entry != rowsBefore.end() && entry->second != several) votes[static_cast<int64_t>(row) - entry->second]++;
  }
  votes.erase(0);
  const auto best = std::max_element(votes.begin(), votes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (best == votes.end()) return Napi::Boolean::New(info.Env(), false);

  const int64_t down = best->first;
  int64_t first = 0, count = 0;
  for (int64_t row = std::max<int64_t>(0, down), start = row; row < static_cast<int64_t>(rows); row++) {
    const int64_t from = row - down;
    const bool same = from >= 0 && from < static_cast<int64_t>(rows) &&
                      std::memcmp(now(static_cast<uint64_t>(row)), before(static_cast<uint64_t>(from)), rowBytes) == 0;
    if (!same) {
      start = row + 1;
    } else if (row + 1 - start > count) {
      first = start;
      count = row + 1 - start;
    }
  }
  const int64_t numbers[] = {static_cast<int64_t>(left / pixelBytes), static_cast<int64_t>(rowBytes / pixelBytes), first,
                             count, down};
  std::copy(std::begin(numbers), std::end(numbers), found.data);
  return Napi::Boolean::New(info.Env(), count > 0);
}

}  // namespace

void exposePixels(Napi::Object exports) {
  expose<transfer<Access::read>>(exports, "gather");
  expose<transfer<Access::write>>(exports, "scatter");
  expose<convertPixels>(exports, "convertPixels");
  expose<diffTiles>(exports, "diffTiles");
  expose<findScroll>(exports, "findScroll");
}

}  // namespace addon
