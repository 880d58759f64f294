#include "serial.h"

#include <stdbool.h>
#include <stdint.h>

#include "ports.h"

#define COM1_DATA 0x3f8
#define COM1_LINE_STATUS 0x3fd
#define LINE_STATUS_TRANSMIT_EMPTY 0x20

static void put_char(char c) {
  while (!(in8(COM1_LINE_STATUS) & LINE_STATUS_TRANSMIT_EMPTY)) continue;
  out8(COM1_DATA, (uint8_t)c);
}

static void put_string(const char *string) {
  while (*string != '\0') put_char(*string++);
}

static void put_decimal(uint32_t value) {
  if (value >= 10) put_decimal(value / 10);
  put_char((char)('0' + value % 10));
}

static void put_hex(uint64_t value, int min_digits) {
  for (int digit = 15; digit >= 0; digit--) {
    uint64_t rest = value >> (4 * digit);
    if (rest != 0 || digit < min_digits || digit == 0) put_char("0123456789abcdef"[rest & 15]);
  }
}

void serial_vprint(const char *format, va_list arguments) {
  for (; *format != '\0'; format++) {
    if (*format != '%') {
      put_char(*format);
      continue;
    }
    int width = 0;
    bool is_long_long = false;
    for (format++; (*format >= '0' && *format <= '9') || *format == 'l'; format++) {
      if (*format == 'l') is_long_long = true;
      else width = *format - '0';
    }
    switch (*format) {
      case 's': put_string(va_arg(arguments, const char *)); break;
      case 'u': put_decimal(va_arg(arguments, uint32_t)); break;
      case 'x':
        put_hex(is_long_long ? va_arg(arguments, uint64_t) : va_arg(arguments, uint32_t), width);
        break;
      default: put_char(*format); break;
    }
  }
}

void serial_print(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  serial_vprint(format, arguments);
  va_end(arguments);
}
