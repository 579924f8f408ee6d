import { createContext, use, useSyncExternalStore } from "react";
import type { App } from "../app/app";
import type { Store } from "../app/store";
import type { ChatState } from "../chat/reducer";
import type { FleetState } from "../fleet/watch";
import type { Preferences } from "../storage/preferences";

export const AppContext = createContext<App | null>(null);

export function useApp(): App {
  const app = use(AppContext);
  if (!app) throw new Error("useApp needs an AppContext around it.");
  return app;
}

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, store.get);
}

export function useChat(): ChatState {
  return useStore(useApp().session.state);
}

export function useFleet(): FleetState {
  return useStore(useApp().fleet.state);
}

export function usePreferences(): [Preferences, (change: Partial<Preferences>) => void] {
  const { preferences } = useApp();
  const value = useStore(preferences);
  return [
    value,
    (change) => {
      preferences.set({ ...preferences.get(), ...change });
    },
  ];
}

/** The model that the next question goes to; "" while none is known. */
export function useModel(): string {
  const { models } = useFleet();
  const [{ model }] = usePreferences();
  return models === null || models.some(({ id }) => id === model) ? model : (models[0]?.id ?? "");
}

/** Whether the model takes pictures; undefined when the gateway does not say. */
export function useTakesPictures(model: string): boolean | undefined {
  return useFleet().models?.find(({ id }) => id === model)?.images;
}
