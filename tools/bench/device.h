/* virtio-pci from the driver's side (virtio 1.3, 4.1): finds the structures and brings the device up. */
#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include "driver.h"
#include "ram.h"

/* Connects to the server at this path and leaves the device running with its control queue. */
struct driver device_bring_up(const char *path, struct ram *ram);

#endif
