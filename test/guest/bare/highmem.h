/*
 * A view of physical memory above 4 GiB, through PAE paging. cloud-hypervisor puts every 64-bit BAR there and
 * refuses to move it below, so a guest without long mode needs this to reach one.
 */
#ifndef BARE_HIGHMEM_H
#define BARE_HIGHMEM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Addresses below 4 GiB that are no longer the memory beneath them once paging is on: two views of 1 GiB. The
 * image and memory_take() keep below them, and no VMM puts a BAR there.
 */
#define HIGHMEM_VIEW_START 0x40000000u
#define HIGHMEM_VIEW_BYTES 0x40000000u
#define HIGHMEM_VIEWS 2u

/* Switches paging on the first time. False when the CPU will not have it. */
bool highmem_available(void);

/*
 * Where `address` can be seen. A view holds one aligned GiB. The first GiB asked for (the device's registers)
 * keeps its view for ever, any other one replaces what the second view held.
 */
void *highmem_view(uint64_t address);

#endif
