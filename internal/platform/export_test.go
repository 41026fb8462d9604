package platform

// Requeue gives a service another queue.
func (s *Service) Requeue(q Queue) { s.queue = q }
