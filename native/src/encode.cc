// Pixels as viewers of RFB (RFC 6143 and the Tight encoding of the community's protocol text) want them, up to the
// point where zlib or JPEG takes over: pixel formats, ZRLE's tiles, and the rectangles that Tight splits an image
// into.
#include <algorithm>
#include <climits>
#include <cstring>
#include <vector>

#include "args.h"
#include "exports.h"
#include "rows.h"

namespace addon {
namespace {

// ---- pixels to words ----

constexpr size_t sourceBytes = 4;
constexpr size_t channels = 3;
constexpr size_t levels = 256;

/**
 * What a pixel becomes: for each value of red, green and blue its part of a word. The parts are or-ed, and the low
 * `bytes` bytes of the word, little-endian, are the pixel on the wire.
 */
struct Format {
  const uint32_t* parts;
  size_t bytes;
  /** Whether all parts are the value itself, moved to the left, and how far. */
  bool shifts;
  uint32_t shift[channels];
};

bool isShift(const uint32_t* parts, uint32_t& shift) {
  if (parts[1] == 0 || (parts[1] & (parts[1] - 1)) != 0) return false;
  shift = static_cast<uint32_t>(__builtin_ctz(parts[1]));
  for (uint32_t value = 0; value < levels; value++) {
    if (parts[value] != value << shift) return false;
  }
  return true;
}

const Format rgb{nullptr, 3, true, {0, 8, 16}};

/** An image of 4-byte pixels. */
struct Image {
  const uint8_t* first;
  uint64_t stride;
  uint32_t width;
  uint32_t height;
  /** How far to the right the channels are in a pixel read as a word. */
  uint32_t shift[channels];
};

struct Area {
  uint32_t x;
  uint32_t y;
  uint32_t width;
  uint32_t height;
};

void loadRow(const Image& image, const Format& format, uint32_t x, uint32_t y, size_t count, uint32_t* words) {
  const uint8_t* from = image.first + y * image.stride + x * sourceBytes;
  const uint32_t red = image.shift[0];
  const uint32_t green = image.shift[1];
  const uint32_t blue = image.shift[2];
  const uint32_t toRed = format.shift[0];
  const uint32_t toGreen = format.shift[1];
  const uint32_t toBlue = format.shift[2];
  const uint32_t* parts = format.parts;
  for (size_t i = 0; format.shifts && i < count; i++) {
    uint32_t pixel;
    std::memcpy(&pixel, from + i * sourceBytes, sourceBytes);
    words[i] = ((pixel >> red & 0xff) << toRed) | ((pixel >> green & 0xff) << toGreen) |
               ((pixel >> blue & 0xff) << toBlue);
  }
  for (size_t i = 0; !format.shifts && i < count; i++) {
    uint32_t pixel;
    std::memcpy(&pixel, from + i * sourceBytes, sourceBytes);
    words[i] = parts[pixel >> red & 0xff] | parts[levels + (pixel >> green & 0xff)] |
               parts[2 * levels + (pixel >> blue & 0xff)];
  }
}

/** Where bytes are put. The caller has made sure that there is room. */
class Output {
 public:
  explicit Output(uint8_t* first) : first_(first), at_(first) {}

  size_t length() const { return static_cast<size_t>(at_ - first_); }

  /** The place of so many bytes, which somebody else puts there. */
  uint8_t* skip(size_t bytes) {
    at_ += bytes;
    return at_ - bytes;
  }

  void byte(size_t value) { *at_++ = static_cast<uint8_t>(value); }

  void pixels(const uint32_t* words, size_t count, size_t bytes) {
    if (bytes == sizeof(uint32_t)) {
      std::memcpy(at_, words, count * sizeof(uint32_t));
      at_ += count * sizeof(uint32_t);
      return;
    }
    uint8_t* at = at_;
    for (size_t i = 0; i < count; i++) {
      const uint32_t word = words[i];
      at[0] = static_cast<uint8_t>(word);
      if (bytes > 1) at[1] = static_cast<uint8_t>(word >> 8);
      if (bytes > 2) at[2] = static_cast<uint8_t>(word >> 16);
      at += bytes;
    }
    at_ = at;
  }

 private:
  uint8_t* first_;
  uint8_t* at_;
};

/** Pixels are converted in pieces that stay in the first-level cache. */
constexpr size_t pieceWords = 1024;

void storeArea(const Image& image, const Format& format, const Area& area, Output& out) {
  uint32_t words[pieceWords];
  for (uint32_t row = 0; row < area.height; row++) {
    for (uint32_t x = 0; x < area.width; x += pieceWords) {
      const size_t count = std::min<size_t>(pieceWords, area.width - x);
      loadRow(image, format, area.x + x, area.y + row, count, words);
      out.pixels(words, count, format.bytes);
    }
  }
}

// ---- colours ----

/** Up to 256 colours in the order of their first use. */
class Colours {
 public:
  static constexpr size_t most = 256;

  size_t size() const { return size_; }
  const uint32_t* all() const { return colours_; }

  void clear() {
    if (crowded_) {
      std::memset(slots_, 0, sizeof(slots_));
    } else {
      for (size_t i = 0; i < size_; i++) slots_[slotOf(colours_[i])] = 0;
    }
    crowded_ = false;
    size_ = 0;
  }

  /** The index of a colour. One that is not there has index 0: pixels may change while they are read. */
  uint32_t indexOf(uint32_t colour) const {
    for (size_t slot = slotOf(colour); slots_[slot] != 0; slot = (slot + 1) % slotCount) {
      if (colours_[slots_[slot] - 1] == colour) return slots_[slot] - 1u;
    }
    return 0;
  }

  /** The index of a colour, which is added if need be; -1 when there are `limit` others. */
  int add(uint32_t colour, size_t limit = most) {
    size_t slot = slotOf(colour);
    for (; slots_[slot] != 0; slot = (slot + 1) % slotCount) {
      if (colours_[slots_[slot] - 1] == colour) return slots_[slot] - 1;
    }
    if (size_ >= limit) return -1;
    crowded_ = crowded_ || slot != slotOf(colour);
    colours_[size_++] = colour;
    slots_[slot] = static_cast<uint16_t>(size_);
    return static_cast<int>(size_ - 1);
  }

  /** Forgets the colours that were added after there were `size`. */
  void shrink(size_t size) {
    if (size == size_) return;
    uint32_t kept[most];
    std::copy_n(colours_, size, kept);
    clear();
    for (size_t i = 0; i < size; i++) add(kept[i]);
  }

 private:
  static constexpr size_t slotCount = 1024;

  static size_t slotOf(uint32_t colour) { return colour * 0x9e3779b1u >> 22; }

  uint16_t slots_[slotCount] = {};
  uint32_t colours_[most];
  size_t size_ = 0;
  bool crowded_ = false;
};

constexpr uint32_t tileSide = 64;

/** The pixels of one tile as words, row by row without gaps. */
struct TileWords {
  uint32_t words[tileSide * tileSide];
  size_t count;

  void load(const Image& image, const Format& format, const Area& area) {
    count = size_t{area.width} * area.height;
    for (uint32_t row = 0; row < area.height; row++) {
      loadRow(image, format, area.x, area.y + row, area.width, words + size_t{row} * area.width);
    }
  }

  /** The end of the run of equal pixels that begins here. */
  size_t runEnd(size_t at) const {
    const uint32_t colour = words[at];
    const uint64_t pair = uint64_t{colour} << 32 | colour;
    for (uint64_t next; at + 2 <= count; at += 2) {
      std::memcpy(&next, words + at, sizeof(next));
      if (next != pair) break;
    }
    while (at < count && words[at] == colour) at++;
    return at;
  }
};

uint32_t tilesOver(uint32_t length) { return (length + tileSide - 1) / tileSide; }

/** The part of a tile that is in the image. */
Area tileArea(const Image& image, uint32_t column, uint32_t row) {
  const uint32_t x = column * tileSide;
  const uint32_t y = row * tileSide;
  return {x, y, std::min(tileSide, image.width - x), std::min(tileSide, image.height - y)};
}

size_t bitsFor(size_t colours) { return colours <= 2 ? 1 : colours <= 4 ? 2 : colours <= 16 ? 4 : 8; }

/** Indexes of some bits each, the first in the high bits; rows begin with a byte. */
void storeIndexes(const uint32_t* words, uint32_t width, size_t bits, const Colours& colours,
                  Output& out) {
  uint32_t last = words[0];
  uint32_t index = colours.indexOf(last);
  uint32_t packed = 0;
  size_t filled = 0;
  for (uint32_t i = 0; i < width; i++) {
    if (words[i] != last) {
      last = words[i];
      index = colours.indexOf(last);
    }
    packed = packed << bits | index;
    filled += bits;
    if (filled < 8) continue;
    out.byte(packed);
    packed = 0;
    filled = 0;
  }
  if (filled > 0) out.byte(packed << (8 - filled));
}

// ---- ZRLE, RFC 6143 section 7.7.6 ----

constexpr size_t packedPaletteMost = 16;
constexpr size_t runPaletteMost = 127;
constexpr size_t runFlag = 128;

size_t runLengthBytes(size_t length) { return (length - 1) / 255 + 1; }

void storeRunLength(size_t length, Output& out) {
  size_t left = length - 1;
  for (; left >= 255; left -= 255) out.byte(255);
  out.byte(left);
}

/** One tile in whichever way is the shortest; never more than a byte and the pixels. */
void storeZrleTile(const TileWords& tile, const Area& area, size_t bytes, Colours& colours, Output& out) {
  colours.clear();
  bool few = true;
  size_t runs = 0;
  size_t indexedRuns = 0;
  for (size_t at = 0, end; at < tile.count; at = end) {
    end = tile.runEnd(at);
    const size_t length = runLengthBytes(end - at);
    runs += bytes + length;
    indexedRuns += end - at == 1 ? 1 : 1 + length;
    if (few) few = colours.add(tile.words[at], runPaletteMost) >= 0;
  }
  const size_t size = colours.size();
  const size_t palette = size * bytes;
  if (few && size == 1) {
    out.byte(1);
    out.pixels(tile.words, 1, bytes);
    return;
  }

  const size_t raw = tile.count * bytes;
  const size_t bits = bitsFor(size);
  const size_t packed =
      few && size <= packedPaletteMost ? palette + (area.width * bits + 7) / 8 * area.height : SIZE_MAX;
  if (few) indexedRuns += palette;
  const size_t best = std::min({raw, packed, runs, few ? indexedRuns : SIZE_MAX});
  if (best == raw) {
    out.byte(0);
    out.pixels(tile.words, tile.count, bytes);
  } else if (best == packed) {
    out.byte(size);
    out.pixels(colours.all(), size, bytes);
    for (size_t at = 0; at < tile.count; at += area.width) {
      storeIndexes(tile.words + at, area.width, bits, colours, out);
    }
  } else if (best == runs) {
    out.byte(runFlag);
    for (size_t at = 0, end; at < tile.count; at = end) {
      end = tile.runEnd(at);
      out.pixels(tile.words + at, 1, bytes);
      storeRunLength(end - at, out);
    }
  } else {
    out.byte(runFlag + size);
    out.pixels(colours.all(), size, bytes);
    for (size_t at = 0, end; at < tile.count; at = end) {
      end = tile.runEnd(at);
      const size_t index = colours.indexOf(tile.words[at]);
      out.byte(end - at == 1 ? index : runFlag + index);
      if (end - at > 1) storeRunLength(end - at, out);
    }
  }
}

// ---- Tight ----

// These were chosen by measuring: server/displays/vnc/encodings/README.md.
constexpr uint32_t maxColumns = 2048 / tileSide;
constexpr uint32_t maxLosslessTiles = 64;
constexpr uint32_t maxPhotoTiles = 256;
/** Smaller areas of one colour stay in what is around them. */
constexpr uint32_t minFillTiles = 4;
/** Smaller photos are not worth a JPEG. */
constexpr uint32_t minPhotoPixels = 4 * tileSide * tileSide;
/** A palette is not worth its bytes for fewer pixels per colour than this. */
constexpr size_t minPixelsPerColour = 96;
/** A photo has many colours, none of which is everywhere, and neighbours that differ. */
constexpr size_t minPhotoColours = 65;

enum class Kind : int32_t { fill, copy, palette, gradient, photo };

/** What becomes of photos. */
enum class Photos { copied, gradient, kept };

struct Tile {
  /** Where its colours are, and how many; none when they are more than a palette holds. */
  size_t firstColour;
  size_t colours;
  bool photo;
  bool done;
};

struct Block {
  uint32_t column;
  uint32_t row;
  uint32_t columns;
  uint32_t rows;
};

/**
 * Each channel less what its neighbours let one expect: the left one and the upper one less the one between them.
 * Beyond the edges is black.
 */
void storeGradient(const Image& image, const Area& area, Output& out) {
  const size_t rowBytes = area.width * rgb.bytes;
  std::vector<uint8_t> rows(2 * (rgb.bytes + rowBytes));
  uint8_t* above = rows.data() + rgb.bytes;
  uint8_t* row = above + rowBytes + rgb.bytes;
  for (uint32_t y = 0; y < area.height; y++) {
    Output pixels(row);
    storeArea(image, rgb, {area.x, area.y + y, area.width, 1}, pixels);
    uint8_t* to = out.skip(rowBytes);
    for (size_t i = 0; i < rowBytes; i++) {
      const int left = row[static_cast<ptrdiff_t>(i) - static_cast<ptrdiff_t>(rgb.bytes)];
      const int between = above[static_cast<ptrdiff_t>(i) - static_cast<ptrdiff_t>(rgb.bytes)];
      to[i] = static_cast<uint8_t>(row[i] - std::clamp(left + above[i] - between, 0, 255));
    }
    std::swap(row, above);
  }
}

/** Cuts an image into rectangles and stores them; see packTightRects. */
class TightRects {
 public:
  TightRects(const Image& image, const Format& format, Photos photos, Output& out, int32_t* records)
      : image_(image),
        format_(format),
        photos_(photos),
        columns_(tilesOver(image.width)),
        rows_(tilesOver(image.height)),
        tiles_(size_t{columns_} * rows_),
        out_(out),
        records_(records) {
    size_t each = 0;
    for (uint32_t row = 0; row < rows_; row++) {
      for (uint32_t column = 0; column < columns_; column++) look(tileArea(image, column, row), tiles_[each++]);
    }
  }

  size_t store() {
    forEachFree([this](const Block& seed) {
      if (at(seed).colours == 1) storeFill(seed);
    });
    forEachFree([this](const Block& seed) {
      if (at(seed).photo) storePhoto(seed);
    });
    forEachFree([this](const Block& seed) {
      if (at(seed).colours > 0) storePalette(seed);
    });
    forEachFree([this](const Block& seed) {
      storeCopy(grow(seed, maxLosslessTiles, [this](const Block& more) {
        return all(more, [](const Tile& tile) { return tile.colours == 0; });
      }));
    });
    return count_;
  }

 private:

  void look(const Area& area, Tile& tile) {
    words_.load(image_, format_, area);
    set_.clear();
    bool few = true;
    size_t steps = 0;
    size_t used[Colours::most] = {};
    for (size_t at = 0, end; at < words_.count; at = end) {
      end = words_.runEnd(at);
      steps++;
      if (!few) continue;
      const int index = set_.add(words_.words[at]);
      few = index >= 0;
      if (few) used[index] += end - at;
    }
    const size_t commonest = few ? *std::max_element(used, used + set_.size()) : 0;
    tile.photo = photos_ != Photos::copied && (!few || set_.size() >= minPhotoColours) &&
                 2 * steps >= words_.count && 4 * commonest < words_.count;
    tile.done = false;
    tile.firstColour = colours_.size();
    tile.colours = few ? set_.size() : 0;
    colours_.insert(colours_.end(), set_.all(), set_.all() + tile.colours);
  }

  Tile& at(const Block& block) { return tiles_[size_t{block.row} * columns_ + block.column]; }

  template <typename Do>
  void forEachFree(Do each) {
    for (uint32_t row = 0; row < rows_; row++) {
      for (uint32_t column = 0; column < columns_; column++) {
        const Block seed{column, row, 1, 1};
        if (!at(seed).done) each(seed);
      }
    }
  }

  template <typename Do>
  void forEachTile(const Block& block, Do each) {
    for (uint32_t row = block.row; row < block.row + block.rows; row++) {
      for (uint32_t column = block.column; column < block.column + block.columns; column++) {
        each(tiles_[size_t{row} * columns_ + column]);
      }
    }
  }

  /** Whether a block is free, and all of its tiles are such. */
  template <typename Such>
  bool all(const Block& block, Such such) {
    bool yes = true;
    forEachTile(block, [&](const Tile& tile) { yes = yes && !tile.done && such(tile); });
    return yes;
  }

  /** Makes a block larger, first to the right, then downwards, as long as `take` takes what is next to it. */
  template <typename Take>
  Block grow(const Block& seed, uint32_t maxTiles, Take take) {
    Block block = seed;
    while (block.column + block.columns < columns_ && block.columns < maxColumns &&
           take({block.column + block.columns, block.row, 1, 1})) {
      block.columns++;
    }
    while (block.row + block.rows < rows_ && (block.rows + 1) * block.columns <= maxTiles &&
           take({block.column, block.row + block.rows, block.columns, 1})) {
      block.rows++;
    }
    return block;
  }

  void storeFill(const Block& seed) {
    const uint32_t colour = colours_[at(seed).firstColour];
    const Block block = grow(seed, UINT32_MAX, [&](const Block& more) {
      return all(more, [&](const Tile& tile) { return tile.colours == 1 && colours_[tile.firstColour] == colour; });
    });
    if (block.columns * block.rows < minFillTiles) return;
    set_.clear();
    set_.add(colour);
    storeColours(block);
  }

  /** A photo that is too small for JPEG becomes none. */
  void storePhoto(const Block& seed) {
    const bool kept = photos_ == Photos::kept;
    const Block block = grow(seed, kept ? maxPhotoTiles : maxLosslessTiles, [this](const Block& more) {
      return all(more, [](const Tile& tile) { return tile.photo; });
    });
    const Area area = areaOf(block);
    if (!kept) {
      record(Kind::gradient, block, 0, [&] { storeGradient(image_, area, out_); });
    } else if (area.width * area.height >= minPhotoPixels) {
      record(Kind::photo, block, 0, [&] { storeArea(image_, rgb, area, out_); });
    } else {
      forEachTile(block, [](Tile& tile) { tile.photo = false; });
    }
  }

  void storeCopy(const Block& block) {
    record(Kind::copy, block, 0, [&] { storeArea(image_, format_, areaOf(block), out_); });
  }

  /**
   * A block whose tiles share one palette: of two colours if the first tile has no more. Where the palette is too
   * large, the tiles become such that have none.
   */
  void storePalette(const Block& seed) {
    const size_t most = at(seed).colours <= 2 ? 2 : Colours::most;
    set_.clear();
    addColours(at(seed), most);
    const Block block = grow(seed, maxLosslessTiles, [&](const Block& more) {
      const size_t before = set_.size();
      const bool fits = all(more, [&](const Tile& tile) { return tile.colours > 0 && addColours(tile, most); });
      if (!fits) set_.shrink(before);
      return fits;
    });
    const Area area = areaOf(block);
    if (set_.size() > 2 && area.width * area.height < set_.size() * minPixelsPerColour) {
      forEachTile(block, [](Tile& tile) { tile.colours = 0; });
    } else {
      storeColours(block);
    }
  }

  bool addColours(const Tile& tile, size_t most) {
    for (size_t i = 0; i < tile.colours; i++) {
      if (set_.add(colours_[tile.firstColour + i], most) < 0) return false;
    }
    return true;
  }

  /** Stores a block that has no colours but those in the set. */
  void storeColours(const Block& block) {
    const Area area = areaOf(block);
    const size_t size = set_.size();
    if (size == 1) {
      record(Kind::fill, block, 1, [&] { out_.pixels(set_.all(), 1, format_.bytes); });
      return;
    }
    const size_t bits = size == 2 ? 1 : 8;
    const size_t length = size * format_.bytes + (area.width * bits + 7) / 8 * area.height;
    if (length >= size_t{area.width} * area.height * format_.bytes) {
      storeCopy(block);
      return;
    }
    record(Kind::palette, block, size, [&] {
      out_.pixels(set_.all(), size, format_.bytes);
      row_.resize(area.width);
      for (uint32_t row = 0; row < area.height; row++) {
        loadRow(image_, format_, area.x, area.y + row, area.width, row_.data());
        storeIndexes(row_.data(), area.width, bits, set_, out_);
      }
    });
  }

  Area areaOf(const Block& block) const {
    const uint32_t x = block.column * tileSide;
    const uint32_t y = block.row * tileSide;
    return {x, y, std::min(block.columns * tileSide, image_.width - x),
            std::min(block.rows * tileSide, image_.height - y)};
  }

  template <typename Store>
  void record(Kind kind, const Block& block, size_t colours, Store store) {
    const Area area = areaOf(block);
    const size_t start = out_.length();
    store();
    forEachTile(block, [](Tile& tile) { tile.done = true; });
    const size_t values[] = {static_cast<size_t>(kind), area.x, area.y, area.width, area.height, colours, start,
                             out_.length() - start};
    for (const size_t value : values) *records_++ = static_cast<int32_t>(value);
    count_++;
  }

  const Image& image_;
  const Format& format_;
  const Photos photos_;
  const uint32_t columns_;
  const uint32_t rows_;
  std::vector<Tile> tiles_;
  std::vector<uint32_t> colours_;
  std::vector<uint32_t> row_;
  TileWords words_;
  Colours set_;
  Output& out_;
  int32_t* records_;
  size_t count_ = 0;
};

constexpr size_t recordNumbers = 8;

// ---- calls ----

/** What all calls begin with: bytes, offset, stride, width, height, red, green, blue, parts, pixel bytes, to. */
struct Job {
  Image image;
  Format format;
  Bytes to;

  Job(Args& args, size_t maxTo) {
    const Bytes from = args.bytes(0, "pixels.bytes");
    const Span span = readSpan(args, 1, "pixels.offset", "pixels.strideBytes");
    image.width = static_cast<uint32_t>(args.integer(3, "pixels.width", UINT16_MAX));
    image.height = static_cast<uint32_t>(args.integer(4, "pixels.height", UINT16_MAX));
    for (size_t i = 0; i < channels; i++) {
      image.shift[i] = 8 * static_cast<uint32_t>(args.integer(5 + i, "pixels.order", sourceBytes - 1));
    }
    const Array<int32_t> parts = args.int32s(8, "format.parts");
    format.bytes = args.integer(9, "format.bytes", sourceBytes);
    to = args.bytes(10, "to");
    requireRows(args, "pixels", from, span, image.width * sourceBytes, image.height);
    if (args.failed()) return;
    if (parts.length != channels * levels) args.mistake<Napi::RangeError>("format.parts", "must be 3 times 256");
    if (format.bytes == 0) args.mistake<Napi::RangeError>("format.bytes", "must not be 0");
    if (to.length > maxTo) args.mistake<Napi::RangeError>("to", "is too large");
    if (args.failed()) return;
    image.first = from.data + span.offset;
    image.stride = span.stride;
    if (image.width == 0 || image.height == 0) image.width = image.height = 0;
    format.parts = reinterpret_cast<const uint32_t*>(parts.data);
    format.shifts = true;
    for (size_t i = 0; i < channels; i++) {
      format.shifts = format.shifts && isShift(format.parts + i * levels, format.shift[i]);
    }
  }

  size_t pixels() const { return size_t{image.width} * image.height; }
  size_t tiles() const { return size_t{tilesOver(image.width)} * tilesOver(image.height); }

  void requireRoom(Args& args, size_t bytes) const {
    if (!args.failed() && to.length < bytes) args.mistake<Napi::RangeError>("to", "has no room for the worst case");
  }
};

Napi::Value lengthOf(const Napi::CallbackInfo& info, size_t length) {
  return Napi::Number::New(info.Env(), static_cast<double>(length));
}

// packPixels(pixels..., parts, pixelBytes, to): bytes stored
Napi::Value packPixels(const Napi::CallbackInfo& info) {
  Args args(info);
  const Job job(args, SIZE_MAX);
  job.requireRoom(args, job.pixels() * job.format.bytes);
  if (args.failed()) return {};
  Output out(job.to.data);
  storeArea(job.image, job.format, {0, 0, job.image.width, job.image.height}, out);
  return lengthOf(info, out.length());
}

// packZrleTiles(pixels..., parts, pixelBytes, to): bytes stored
Napi::Value packZrleTiles(const Napi::CallbackInfo& info) {
  Args args(info);
  const Job job(args, SIZE_MAX);
  job.requireRoom(args, job.pixels() * job.format.bytes + job.tiles());
  if (args.failed()) return {};
  Output out(job.to.data);
  Colours colours;
  TileWords tile;
  for (uint32_t row = 0; row < tilesOver(job.image.height); row++) {
    for (uint32_t column = 0; column < tilesOver(job.image.width); column++) {
      const Area area = tileArea(job.image, column, row);
      tile.load(job.image, job.format, area);
      storeZrleTile(tile, area, job.format.bytes, colours, out);
    }
  }
  return lengthOf(info, out.length());
}

// packTightRects(pixels..., parts, pixelBytes, to, photos, records): number of records
Napi::Value packTightRects(const Napi::CallbackInfo& info) {
  Args args(info);
  const Job job(args, INT32_MAX);
  const auto photos = static_cast<Photos>(args.integer(11, "photos", static_cast<uint64_t>(Photos::kept)));
  const Array<int32_t> records = args.int32s(12, "records");
  job.requireRoom(args, job.pixels() * std::max(job.format.bytes, rgb.bytes));
  if (!args.failed() && records.length < job.tiles() * recordNumbers) {
    args.mistake<Napi::RangeError>("records", "has no room for the worst case");
  }
  if (args.failed()) return {};
  Output out(job.to.data);
  TightRects rects(job.image, job.format, photos, out, records.data);
  return lengthOf(info, rects.store());
}

}  // namespace

void exposeEncoders(Napi::Object exports) {
  expose<packPixels>(exports, "packPixels");
  expose<packZrleTiles>(exports, "packZrleTiles");
  expose<packTightRects>(exports, "packTightRects");
}

}  // namespace addon
