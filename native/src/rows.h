// Where the rows of an image lie in a buffer, as functions over pixels take it in two arguments.
#pragma once

#include "args.h"

namespace addon {

/** Where rows lie: the first byte, and the distance from row to row. */
struct Span {
  uint64_t offset;
  uint64_t stride;
};

inline Span readSpan(Args& args, size_t index, const char* offsetName, const char* strideName) {
  const uint64_t offset = args.integer(index, offsetName);
  const uint64_t stride = args.integer(index + 1, strideName);
  return {offset, stride};
}

/** Whether all rows lie in `length` bytes, one behind the other. Cannot overflow for arguments below 2^53. */
inline bool holds(uint64_t length, const Span& span, uint64_t rowBytes, uint64_t rows) {
  if (rowBytes == 0 || rows == 0) return true;
  if (span.offset > length || rowBytes > length - span.offset) return false;
  if (rows == 1) return true;
  return span.stride >= rowBytes && rows - 1 <= (length - span.offset - rowBytes) / span.stride;
}

inline void requireRows(Args& args, const char* name, const Bytes& bytes, const Span& span, uint64_t rowBytes,
                        uint64_t rows) {
  if (args.failed() || holds(bytes.length, span, rowBytes, rows)) return;
  args.mistake<Napi::RangeError>(name, "does not hold all rows, or they overlap");
}

}  // namespace addon
