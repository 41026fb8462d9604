package platform

// Requeue gives a service another queue.
func (s *Service) Requeue(q Queue) { s.queue = q }

// Redocument puts something between the service and its documents.
func (s *Service) Redocument(between func(Documents) Documents) { s.docs = between(s.docs) }
