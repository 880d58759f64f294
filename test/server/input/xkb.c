/*
 * What X11 and Wayland make of keys: libxkbcommon as the judge of our layouts.
 *
 *     xkb LAYOUT VARIANT     reads lines, answers each with one
 *
 *     strokes CODE[+CODE]... ...   key codes of Linux, those before the last one held: typed text (hexadecimal
 *                                  UTF-8, or -), then the keysym of each stroke
 *     keysym CODEPOINT             the keysym of a character
 *     character KEYSYM             the code point of a keysym; 0: none
 *     name KEYSYM                  its name, then the key codes that give it, whatever is held with them
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xkbcommon/xkbcommon-compose.h>
#include <xkbcommon/xkbcommon.h>

#define EVDEV_OFFSET 8

static struct xkb_state *state;
static struct xkb_compose_state *compose;

static void fail(const char *what) {
  fprintf(stderr, "xkb: %s\n", what);
  exit(1);
}

/* Presses and releases one stroke; appends what it types. */
static xkb_keysym_t stroke(char *word, char *text, size_t room) {
  xkb_keycode_t keys[8];
  int count = 0;
  for (char *rest, *code = strtok_r(word, "+", &rest); code && count < 8; code = strtok_r(NULL, "+", &rest)) {
    keys[count++] = (xkb_keycode_t)atoi(code) + EVDEV_OFFSET;
  }
  if (count == 0) fail("a stroke without a key");
  for (int i = 0; i < count - 1; i++) xkb_state_update_key(state, keys[i], XKB_KEY_DOWN);
  xkb_keycode_t key = keys[count - 1];
  xkb_keysym_t keysym = xkb_state_key_get_one_sym(state, key);
  size_t used = strlen(text);
  xkb_compose_state_feed(compose, keysym);
  switch (xkb_compose_state_get_status(compose)) {
    case XKB_COMPOSE_NOTHING:
      xkb_state_key_get_utf8(state, key, text + used, room - used);
      break;
    case XKB_COMPOSE_COMPOSED:
      xkb_compose_state_get_utf8(compose, text + used, room - used);
      break;
    case XKB_COMPOSE_COMPOSING:
    case XKB_COMPOSE_CANCELLED:
      break;
  }
  xkb_state_update_key(state, key, XKB_KEY_DOWN);
  for (int i = count - 1; i >= 0; i--) xkb_state_update_key(state, keys[i], XKB_KEY_UP);
  return keysym;
}

static void type(char *strokes) {
  char text[65536] = "", keysyms[65536] = "";
  size_t used = 0;
  xkb_compose_state_reset(compose);
  for (char *rest, *word = strtok_r(strokes, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    used += (size_t)snprintf(keysyms + used, sizeof keysyms - used, " %x", stroke(word, text, sizeof text));
    if (used >= sizeof keysyms) fail("too many strokes");
  }
  if (!*text) putchar('-');
  for (const char *byte = text; *byte; byte++) printf("%02x", (unsigned char)*byte);
  puts(keysyms);
}

static void name(struct xkb_keymap *keymap, xkb_keysym_t wanted) {
  char text[64];
  xkb_keysym_get_name(wanted, text, sizeof text);
  fputs(text, stdout);
  for (xkb_keycode_t key = xkb_keymap_min_keycode(keymap); key <= xkb_keymap_max_keycode(keymap); key++) {
    bool gives = false;
    for (xkb_level_index_t level = 0; level < xkb_keymap_num_levels_for_key(keymap, key, 0); level++) {
      const xkb_keysym_t *keysyms;
      int count = xkb_keymap_key_get_syms_by_level(keymap, key, 0, level, &keysyms);
      for (int i = 0; i < count; i++) gives |= keysyms[i] == wanted;
    }
    if (gives) printf(" %u", key - EVDEV_OFFSET);
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: xkb LAYOUT VARIANT");
  struct xkb_context *context = xkb_context_new(XKB_CONTEXT_NO_FLAGS);
  struct xkb_rule_names names = {.rules = "evdev", .model = "pc105", .layout = argv[1], .variant = argv[2]};
  struct xkb_keymap *keymap = xkb_keymap_new_from_names(context, &names, XKB_KEYMAP_COMPILE_NO_FLAGS);
  struct xkb_compose_table *table =
    xkb_compose_table_new_from_locale(context, "en_US.UTF-8", XKB_COMPOSE_COMPILE_NO_FLAGS);
  if (!keymap) fail("no such layout");
  if (!table) fail("no compose table");
  state = xkb_state_new(keymap);
  compose = xkb_compose_state_new(table, XKB_COMPOSE_STATE_NO_FLAGS);

  static char line[1 << 20];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, "strokes ", 8) == 0) {
      type(line + 8);
    } else if (strncmp(line, "keysym ", 7) == 0) {
      printf("%x\n", xkb_utf32_to_keysym((uint32_t)strtoul(line + 7, NULL, 10)));
    } else if (strncmp(line, "character ", 10) == 0) {
      printf("%x\n", xkb_keysym_to_utf32((xkb_keysym_t)strtoul(line + 10, NULL, 10)));
    } else if (strncmp(line, "name ", 5) == 0) {
      name(keymap, (xkb_keysym_t)strtoul(line + 5, NULL, 10));
    } else {
      fail("a line that is not understood");
    }
  }
  return 0;
}
