#include "pvh.h"

static const struct hvm_start_info *start_info;

bool pvh_init(const struct hvm_start_info *info) {
  if (info->magic != XEN_HVM_START_MAGIC_VALUE || info->version < 1) return false;
  start_info = info;
  return true;
}

size_t pvh_memory_map(const struct hvm_memmap_table_entry **entries) {
  *entries = (const struct hvm_memmap_table_entry *)(uintptr_t)start_info->memmap_paddr;
  return start_info->memmap_entries;
}

static bool is_end_of_word(char c) {
  return c == '\0' || c == ' ' || c == '\n';
}

/* What follows `prefix` in the first word that starts with it. */
static const char *find_word(const char *prefix) {
  const char *at = (const char *)(uintptr_t)start_info->cmdline_paddr;
  if (at == NULL) return NULL;
  while (*at != '\0') {
    const char *p = prefix;
    while (*p != '\0' && *p == *at) {
      p++;
      at++;
    }
    if (*p == '\0') return at;
    while (!is_end_of_word(*at)) at++;
    while (*at != '\0' && is_end_of_word(*at)) at++;
  }
  return NULL;
}

bool pvh_option(const char *word) {
  const char *rest = find_word(word);
  return rest != NULL && is_end_of_word(*rest);
}

const char *pvh_option_value(const char *name) {
  return find_word(name);
}
