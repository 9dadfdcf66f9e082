//! Dev-only: virtual clock, seeded bad link, link grades.
