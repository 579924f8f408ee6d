import type { ReactNode } from "react";
import { Dialog } from "./Dialog";

/** The sidebar on a narrow screen. */
export function SidebarDrawer({ onClose, children }: { readonly onClose: () => void; readonly children: ReactNode }) {
  return (
    <Dialog title="Conversations" className="dialog--left" onClose={onClose}>
      {children}
    </Dialog>
  );
}
