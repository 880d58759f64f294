import { describe, expect, test } from 'vitest';
import { DisplayEvents } from '../../../server/gpu/display-events.ts';
import { GpuMachine } from '../../support/gpu-machine.ts';

const DISPLAY = 1;
const MODE = { width: 800, height: 600, refreshHz: 60 };

describe('a display change', () => {
  test('sets the event, moves the generation and interrupts once', () => {
    using machine = new GpuMachine();
    const generation = machine.driver.common('generation');
    machine.screens[0]?.setMode(MODE);
    expect(machine.driver.deviceConfig(0)).toBe(DISPLAY);
    expect(machine.driver.common('generation')).not.toBe(generation);
    expect(machine.fired).toEqual([0]);
  });

  test('to the mode there is already is none', () => {
    using machine = new GpuMachine({ modes: [MODE] });
    machine.screens[0]?.setMode({ ...MODE });
    expect(machine.driver.deviceConfig(0)).toBe(0);
    expect(machine.fired).toEqual([]);
  });

  test('before the driver is ready interrupts nobody, and the event waits', () => {
    using machine = new GpuMachine({ poweredOnOnly: true });
    machine.screens[0]?.setMode(MODE);
    expect(machine.fired).toEqual([]);
    expect(machine.driver.deviceConfig(0)).toBe(DISPLAY);
  });

  test('handled as Linux does (EDIDs, display info, clear) leaves nothing behind', () => {
    using machine = new GpuMachine();
    machine.screens[0]?.setMode(MODE);
    machine.edid(0);
    machine.displayInfo();
    machine.driver.setDeviceConfig(4, DISPLAY);
    expect(machine.driver.deviceConfig(0)).toBe(0);
    expect(machine.fired.filter((vector) => vector === 0)).toEqual([0]);
  });

  test('between fetching and clearing is raised again', () => {
    using machine = new GpuMachine();
    machine.screens[0]?.setMode(MODE);
    machine.edid(0);
    machine.displayInfo();
    machine.screens[0]?.setMode({ ...MODE, width: 1024 });
    machine.fired.length = 0;
    machine.driver.setDeviceConfig(4, DISPLAY);
    expect(machine.driver.deviceConfig(0)).toBe(DISPLAY);
    expect(machine.fired).toEqual([0]);
    machine.displayInfo();
    machine.driver.setDeviceConfig(4, DISPLAY);
    expect(machine.driver.deviceConfig(0)).toBe(0);
  });

  test('between the EDIDs and the display info is raised again', () => {
    const events = new DisplayEvents();
    events.change();
    events.noteEdidServed();
    events.change();
    events.noteEdidServed();
    events.noteDisplayInfoServed();
    expect(events.clear(DISPLAY)).toBe(true);
    events.noteEdidServed();
    events.noteDisplayInfoServed();
    expect(events.clear(DISPLAY)).toBe(false);
    expect(events.eventsRead).toBe(0);
  });

  test('is not raised again for ever for a driver that never asks for an EDID', () => {
    const events = new DisplayEvents();
    events.change();
    events.noteDisplayInfoServed();
    expect(events.clear(DISPLAY)).toBe(false);
  });

  test('is not cleared by a write of 0, which Linux sends when there was nothing', () => {
    const events = new DisplayEvents();
    events.change();
    expect(events.clear(0)).toBe(false);
    expect(events.eventsRead).toBe(DISPLAY);
  });
});
