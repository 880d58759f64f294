/* RAM for the picture, and what gcc expects to find under the names of the C library. */
#ifndef BARE_MEMORY_H
#define BARE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u

void *memset(void *to, int value, size_t count);
void *memcpy(void *to, const void *from, size_t count);

/* `bytes` of page-aligned RAM behind the image, never given back. NULL when there is not that much. */
void *memory_take(size_t bytes);

#endif
