/*
 * console: writes known text on the text console of the screen, and tells the host all it needs to read that text
 * off a picture: the font, the size of a cell and how many cells there are.
 *
 *   console LINE...
 *
 * Clears the first virtual terminal, hides its cursor, writes each LINE at the start of a line, and prints
 *
 *   CONSOLE columns=160 rows=50 cell=8x16 first=32 font=HEX
 *
 * where HEX holds the glyphs of the printable ASCII characters, from the space on, one bit per pixel, each row
 * padded to bytes. tools/testbed/console.ts does the reading. The kernel puts the text on the screen a moment
 * later, by a worker.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FIRST = 32, LAST = 126, BYTES_PER_GLYPH = 32 * 4 };

static void die(const char *what) {
  printf("CONSOLE error: %s: %s\n", what, strerror(errno));
  exit(1);
}

int main(int argc, char **argv) {
  int terminal = open("/dev/tty1", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0) die("/dev/tty1");

  dprintf(terminal, "\033[2J\033[H\033[?25l");
  for (int a = 1; a < argc; a++) dprintf(terminal, "%s%s", a > 1 ? "\r\n" : "", argv[a]);

  struct winsize size;
  if (ioctl(terminal, TIOCGWINSZ, &size) < 0) die("size of the console");
  /* The kernel gives every glyph 32 rows, whatever the height of the font. */
  static uint8_t glyphs[512 * BYTES_PER_GLYPH];
  struct console_font_op font = {.op = KD_FONT_OP_GET, .width = 32, .height = 32, .charcount = 512, .data = glyphs};
  if (ioctl(terminal, KDFONTOP, &font) < 0) die("font of the console");

  unsigned row_bytes = (font.width + 7) / 8;
  printf("CONSOLE columns=%u rows=%u cell=%ux%u first=%d font=", size.ws_col, size.ws_row, font.width, font.height,
         FIRST);
  for (unsigned character = FIRST; character <= LAST; character++)
    for (unsigned byte = 0; byte < font.height * row_bytes; byte++)
      printf("%02x", glyphs[character * 32 * row_bytes + byte]);
  printf("\n");
  return 0;
}
