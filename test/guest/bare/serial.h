/* The console: a 16550 at 0x3f8, polled. */
#ifndef BARE_SERIAL_H
#define BARE_SERIAL_H

#include <stdarg.h>

/* Understands %s %u %x %08x (any width of one digit) and %llx. */
void serial_vprint(const char *format, va_list arguments);
void serial_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
